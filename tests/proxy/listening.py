"""Apps behind a listener, served as the gateway serves its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.proxy.listener import Listener, bind, quiet_server_log, stop


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[int]:
    """Serve an app; yield the port."""
    bound = bind("127.0.0.1", 0, "GATEWAY_PORT")
    quiet_server_log()
    listener = Listener(app, bound)
    task = asyncio.create_task(listener.run_until_stopped())
    try:
        yield listener.port
    finally:
        await stop([(listener, task)])
