"""Profiles: what a Redis may forget of what it has acknowledged, when it or its machine dies.

P1 with ``always`` nothing, however it dies
P2 with ``everysec`` what was acknowledged at first is kept, while its process still runs
P3 what is forgotten is the end: no settle is gone before one that is there
P4 what is left is whole: counters, holds and deadlines tell what the journal tells

The power is cut at what the kernel has written to the disk, in the middle of a command. How much
is forgotten is measured by ``python -m bench.durability``.
"""

import asyncio
import time

import pytest

from bench.append_only_file import unwritten
from bench.outage import Death, Outage, outage
from bench.page_cache import can_tell
from bench.settles import Load
from tests.servers import SCRIPT_SERVERS, Servers
from tests.until import until

SETTLES = 300
# Longer than the second between two fsyncs.
LONG_S = 2.5
# Some dozen calls.
UNWRITTEN_BYTES = 65_536


@pytest.fixture(scope="module", autouse=True)
def disk(servers: Servers) -> None:
    """Skip where the kernel does not tell what is on the disk (Linux before 6.5, tmpfs)."""
    if not can_tell(servers.folder):
        pytest.skip(f"The kernel does not tell what of {servers.folder} is on the disk.")


@pytest.fixture(scope="module", params=SCRIPT_SERVERS)
def cut(servers: Servers, request: pytest.FixtureRequest) -> Outage:
    """Cut the power of a server that syncs every second, after more than two seconds."""
    server = servers.own_redis(request.param, appendfsync="everysec")

    async def until_due(running: Load) -> None:
        def is_due() -> bool:
            is_long = time.monotonic() - running.began_s > LONG_S
            return is_long and unwritten(server.folder) > UNWRITTEN_BYTES

        await until(is_due, "a load of some seconds")

    return asyncio.run(outage(server, "machine", until_due))


@pytest.mark.parametrize("death", ["process", "machine"])
@pytest.mark.parametrize("name", SCRIPT_SERVERS)
async def test_always_forgets_nothing(servers: Servers, name: str, death: Death) -> None:
    """P1, P4: every settle that was acknowledged is there, and counted."""
    server = servers.own_redis(name, appendfsync="always")

    async def until_due(running: Load) -> None:
        await until(lambda: len(running.acknowledged) >= SETTLES, "some settles", 30.0)

    found = await outage(server, death, until_due)

    assert found.lost == []
    assert found.books.are_whole


def test_everysec_keeps_what_is_older(cut: Outage) -> None:
    """P2: an fsync has come since; how old the oldest lost one is, the bench measures."""
    assert cut.acknowledged[0].id in cut.survived


def test_everysec_forgets_only_the_end(cut: Outage) -> None:
    """P3: a settle that is there vouches for all before it."""
    kept = max(settle.seq for settle in cut.acknowledged if settle.id in cut.survived)

    assert [settle for settle in cut.lost if settle.seq < kept] == []


def test_everysec_leaves_whole_books(cut: Outage) -> None:
    """P4: a script that was torn in the middle counts as not run."""
    assert cut.books.journaled > 0
    assert cut.books.are_whole, cut.books
