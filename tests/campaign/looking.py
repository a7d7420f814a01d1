"""Looking: somebody who looks again and again while something else goes on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def looking(look: Callable[[], Awaitable[None]], every_s: float) -> AsyncIterator[None]:
    """Look for as long as this block runs; what goes wrong with a look is raised at its end."""

    async def look_on() -> None:
        while True:
            await look()
            await asyncio.sleep(every_s)

    task = asyncio.create_task(look_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        # A watch that fell asleep has seen nothing.
        if not task.cancelled():
            task.result()
