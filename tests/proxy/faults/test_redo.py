"""A Redis that is started again, from its own file or from an older one, under calls that run.

D1 one that has forgotten nothing opens by itself, and is told nothing new
D2 a hold that it has forgotten is made again before anything else is admitted, whatever there is
   room for by then, and as soon as its org is known again
D3 an end that it has forgotten is told again, a release too, and counts once
D4 a sequence that went back is noted in the marker, and only a worker opens it
D5 until then callers are told to come back
   whatever Redis has forgotten: nobody hears that a key, agent or org does not exist
D6 after a rebuild holds and ends are told again as well
"""

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from ulid import ULID

from gateway.budgets.changes import Settlement
from gateway.budgets.keys import NODE
from gateway.cli.embedded_redis import EmbeddedRedis
from gateway.proxy.body import UNCHECKED_BYTES_MAX
from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import bytes_answer, raw_answer

PATH = "/agents/researcher/invoke"
CALL_MICROCENTS = 2_000_000


class Older:
    """A copy of the file of a server, from which it can be started again."""

    def __init__(self, server: EmbeddedRedis) -> None:
        self._server = server
        self._copy = Path(shutil.copytree(self._files, server.folder / "older"))

    @property
    def _files(self) -> Path:
        return self._server.folder / "appendonlydir"

    async def restore(self) -> None:
        """Kill the server and start it from the copy."""
        self._server.kill()
        shutil.rmtree(self._files)
        self._copy.rename(self._files)
        await asyncio.to_thread(self._server.start)


@pytest.fixture(autouse=True)
async def life(own_client: Any) -> None:
    """Note in the marker which start of the server is good, as migrate does."""
    await own_client.hset(NODE, "life", (await own_client.info("server"))["run_id"])


async def doubted(gateway: PlaneGateway) -> None:
    """Wait until the gateway has seen that the server was started again."""
    await until(lambda: "started again" in gateway.plane.app.trouble(), "the restart to be seen")


async def opened(gateway: PlaneGateway) -> None:
    """Wait until calls are admitted."""
    await until(lambda: not gateway.plane.app.trouble(), "the gateway to be ready")


async def compared(client: Any) -> None:
    """Say that this start of the server is good, as a worker does."""
    run_id = (await client.info("server"))["run_id"]
    await client.hset(NODE, "life", run_id)
    await client.hdel(NODE, "lost")


async def test_server_that_has_forgotten_nothing_opens_by_itself(
    own_gateway: PlaneGateway, own_redis: EmbeddedRedis, own_org: Any
) -> None:
    """D1, D5: callers wait for a moment, and nothing is counted twice."""
    async with own_gateway.client() as client:
        assert (await client.post(PATH)).status_code == 200
        await own_gateway.settled()
        own_redis.kill()
        await asyncio.to_thread(own_redis.start)
        await doubted(own_gateway)

        meanwhile = await client.post(PATH)
        await opened(own_gateway)
        after = await client.post(PATH)

    await own_gateway.settled()
    assert (meanwhile.status_code, meanwhile.json()["error"]) == (503, "store_not_ready")
    assert after.status_code == 200
    assert own_gateway.value("redone_total", kind="end") == 0
    assert await own_org.hget(NODE, "lost") is None
    assert (await acme.counters(own_org))["org.spent"] == 2 * CALL_MICROCENTS


@pytest.mark.parametrize("forgotten", ["agents", "keys", "meta"])
async def test_what_is_forgotten_is_not_told_as_unknown(
    own_gateway: PlaneGateway, own_redis: EmbeddedRedis, own_org: Any, forgotten: str
) -> None:
    """D5: a client that hears 401 or 404 gives up for good; once it is there again, calls run."""
    key = f"bg:{{acme}}:{forgotten}"
    fields = await own_org.hgetall(key)
    own_redis.kill()
    await asyncio.to_thread(own_redis.start)
    await own_org.delete(key)
    await own_org.hset(NODE, "lost", (await own_org.info("server"))["run_id"])
    async with own_gateway.client() as client:
        await until(lambda: "has lost" in own_gateway.plane.app.trouble(), "the loss to be seen")

        # So long that its key is looked at before its body.
        meanwhile = await client.post(PATH, content=bytes(2 * UNCHECKED_BYTES_MAX))
        await own_org.hset(key, mapping=fields)
        await compared(own_org)
        await opened(own_gateway)
        after = await client.post(PATH)

    assert (meanwhile.status_code, meanwhile.json()["error"]) == (503, "store_not_ready")
    assert meanwhile.headers["retry-after"] == "1"
    assert after.status_code == 200


async def test_forgotten_hold_is_made_again(
    own_gateway: PlaneGateway, own_redis: EmbeddedRedis, own_org: Any, upstream: StubUpstream
) -> None:
    """D2: the call that runs is settled like any other, and its room was never given away."""
    release = asyncio.Event()
    upstream.answers(raw_answer(release, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"))
    older = Older(own_redis)
    async with own_gateway.client() as client:
        running = asyncio.create_task(client.post(PATH))
        await until(lambda: upstream.busy == 1, "the call to run")

        await older.restore()
        await until(
            lambda: own_gateway.value("redone_total", kind="hold") == 1, "the hold to be made again"
        )

        assert await acme.held(own_org) == {
            "org.held": CALL_MICROCENTS,
            "agent.researcher.held": CALL_MICROCENTS,
        }
        release.set()
        assert (await running).status_code == 200
    await own_gateway.settled()
    assert [entry["counted"] for entry in await acme.journal(own_org)] == [str(CALL_MICROCENTS)]
    assert await acme.counters(own_org) == {
        "org.spent": CALL_MICROCENTS,
        "agent.researcher.spent": CALL_MICROCENTS,
    }


async def test_forgotten_hold_needs_no_room(
    own_gateway: PlaneGateway, own_redis: EmbeddedRedis, own_org: Any, upstream: StubUpstream
) -> None:
    """D2: the limit of the older file is lower than what is held, and its org is not known yet."""
    release = asyncio.Event()
    upstream.answers(raw_answer(release, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"))
    limits, meta = "bg:{acme}:limits", "bg:{acme}:meta"
    before = await own_org.hgetall(limits)
    schema = await own_org.hget(meta, "schema")
    await own_org.hset(limits, "org.month.limit_cents", "0")
    await own_org.hdel(meta, "schema")
    older = Older(own_redis)
    await own_org.hset(limits, mapping=before)
    await own_org.hset(meta, "schema", schema)
    async with own_gateway.client() as client:
        running = asyncio.create_task(client.post(PATH))
        await until(lambda: upstream.busy == 1, "the call to run")

        await older.restore()
        await doubted(own_gateway)
        assert await acme.held(own_org) == {}
        await own_org.hset(meta, "schema", schema)
        await until(
            lambda: own_gateway.value("redone_total", kind="hold") == 1, "the hold to be made again"
        )

        assert (await acme.held(own_org))["org.held"] == CALL_MICROCENTS
        release.set()
        assert (await running).status_code == 200
    await own_gateway.settled()


async def test_forgotten_ends_are_told_again(
    own_gateway: PlaneGateway, own_redis: EmbeddedRedis, own_org: Any, upstream: StubUpstream
) -> None:
    """D3: three calls and one that was released; what the ledger has not, it gets."""
    ok = bytes_answer(b"{}")
    upstream.answers(ok, ok, bytes_answer(b"no", status=500), ok)
    older = Older(own_redis)
    async with own_gateway.client() as client:
        statuses = [(await client.post(PATH)).status_code for _ in range(4)]
    await own_gateway.settled()

    await older.restore()
    await until(
        lambda: own_gateway.value("redone_total", kind="end") == 4, "the ends to be told again"
    )

    assert statuses == [200, 200, 500, 200]
    amounts = [entry["amount"] for entry in await acme.journal(own_org)]
    assert amounts == [str(CALL_MICROCENTS)] * 3
    assert await acme.held(own_org) == {}
    assert await own_org.zcard("bg:expiry") == 0


async def test_end_of_a_long_call_is_told_again(
    own_gateway: PlaneGateway, own_redis: EmbeddedRedis, own_org: Any
) -> None:
    """D3: one that ran for longer than Redis remembers an end, and has ended a moment ago."""
    id = str(ULID.from_timestamp(time.time() - 3600))
    older = Older(own_redis)
    own_gateway.plane.settlements.settle(Settlement("acme", "researcher", id, "total", 7, b"{}"))
    await own_gateway.settled()

    await older.restore()
    await until(
        lambda: own_gateway.value("redone_total", kind="end") == 1, "the end to be told again"
    )

    assert [entry["amount"] for entry in await acme.journal(own_org)] == ["7"]


async def test_loss_is_noted_and_a_worker_opens(
    own_gateway: PlaneGateway, own_redis: EmbeddedRedis, own_org: Any, upstream: StubUpstream
) -> None:
    """D4, D5: the moment after which a gateway opens by itself is over, and it stays closed."""
    older = Older(own_redis)
    async with own_gateway.client() as client:
        assert (await client.post(PATH)).status_code == 200
        await own_gateway.settled()
        await older.restore()

        async def is_noted() -> bool:
            run_id = (await own_org.info("server"))["run_id"]
            return bool(await own_org.hget(NODE, "lost") == run_id)

        await until(is_noted, "the loss to be noted")
        await until(lambda: "has lost" in own_gateway.plane.app.trouble(), "the gateway to see it")
        refused = await client.post(PATH)
        executions = upstream.executions

        await compared(own_org)
        await opened(own_gateway)
        served = await client.post(PATH)

    assert (refused.status_code, refused.json()["error"]) == (503, "store_not_ready")
    assert executions == 1
    assert served.status_code == 200
    assert own_gateway.value("faults_total") == 1


async def test_holds_and_ends_are_told_again_after_a_rebuild(
    own_gateway: PlaneGateway, own_org: Any, upstream: StubUpstream
) -> None:
    """D6: on the same connection; the new epoch is where they are told."""
    release = asyncio.Event()
    slow = raw_answer(release, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    upstream.answers(bytes_answer(b"{}"), slow)
    async with own_gateway.client() as client:
        assert (await client.post(PATH)).status_code == 200
        running = asyncio.create_task(client.post(PATH))
        await until(lambda: upstream.busy == 1, "the call to run")
        await until(lambda: own_gateway.plane.settlements.open == 0, "the first to be settled")
        await own_org.flushall()
        await acme.write_org(own_org)
        await acme.write_agent(own_org, "researcher", upstream.url, {"mode": "flat", "cents": "2"})

        marker = {"schema": "1", "epoch": "2", "windows": "day,month,total", "ready": "1"}
        await own_org.hset(NODE, mapping={**marker, "life": ""})
        await until(
            lambda: own_gateway.value("redone_total", kind="hold") == 1, "the hold to be made again"
        )
        await until(
            lambda: own_gateway.value("redone_total", kind="end") == 1, "the end to be told again"
        )
        assert "started again" in own_gateway.plane.app.trouble()

        release.set()
        assert (await running).status_code == 200
    await own_gateway.settled()
    # That everything was lost is known: a loss that is noted would keep the gate closed.
    assert own_gateway.value("faults_total") == 0
    assert await own_org.hget(NODE, "lost") is None
    entries = await acme.journal(own_org)
    assert [(entry["epoch"], entry["counted"]) for entry in entries] == [
        ("2", "0"),
        ("2", str(CALL_MICROCENTS)),
    ]
