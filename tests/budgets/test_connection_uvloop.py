"""The connection on uvloop, which runs timers before it reads sockets; asyncio does not."""

import asyncio
import os
import signal
import time

import pytest
import uvloop

from gateway.budgets.address import read_address
from gateway.budgets.connection import Connection
from gateway.errors import OutcomeUnknown, StoreUnavailable
from tests.budgets.conftest import ADD, ECHO
from tests.servers import Servers
from tests.until import until


async def _story(servers: Servers) -> None:
    server = servers.own_redis(appendfsync="always")
    connection = Connection(read_address(server.url), (ECHO, ADD), deadline_ms=80)
    await connection.start()
    await connection.tried()

    # A turn longer than the deadline: the reply is there but was not read yet.
    call = connection.submit(ADD, ["sum"], [1])
    await asyncio.wait([call], timeout=0.001)
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        pass
    assert await call == [1]

    os.kill(server.pid, signal.SIGSTOP)
    with pytest.raises(OutcomeUnknown):
        await connection.submit(ADD, ["sum"], [1])
    with pytest.raises(StoreUnavailable):
        await connection.submit(ADD, ["sum"], [1])
    os.kill(server.pid, signal.SIGCONT)
    await until(lambda: connection.connected, "the overdue reply")
    assert await connection.submit(ADD, ["sum"], [0]) == [2]

    server.kill()
    await until(lambda: not connection.connected, "the loss")
    server.start()
    await until(lambda: connection.connected, "the new connection")
    assert await connection.submit(ADD, ["sum"], [0]) == [2]
    await connection.close()


def test_connection_keeps_its_promises_on_uvloop(servers: Servers) -> None:
    """A long turn costs no call; silence, its end and a crash pass as on asyncio's loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_story(servers))
