"""Agents: a changed description is obeyed within a second, and callers cannot fill the memory."""

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.errors import StoreUnavailable
from gateway.proxy.agents import FRESH_S, Agents, Route, Unusable, voice_of
from gateway.proxy.credentials import Credentials
from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway
from tests.stub_upstream import StubUpstream, stub_upstream
from tests.until import until

FLAT = {"upstream": "http://127.0.0.1:9", "price": {"mode": "flat", "cents": "2"}}


class Registry:
    """Descriptions, as the registry keeps them, and how often they were read."""

    def __init__(self, **agents: Any) -> None:
        self.texts = {name: orjson.dumps(described) for name, described in agents.items()}
        self.reads = 0
        self.is_away = False

    async def read(self, _org: str, agent: str) -> bytes | None:
        """Return one description."""
        self.reads += 1
        await asyncio.sleep(0)
        if self.is_away:
            raise StoreUnavailable("Redis is away.")
        return self.texts.get(agent)


def agents_of(registry: Registry, folder: Path) -> Agents:
    """Return agents that are read from there."""
    return Agents(registry.read, Credentials({"GATEWAY_CREDENTIAL_A": "secret"}, folder))


async def test_agent_is_read_once(tmp_path: Path) -> None:
    """Calls of one second, at the same time too, read a description once; the unknown as well."""
    registry = Registry(researcher=FLAT)
    agents = agents_of(registry, tmp_path)

    found = await asyncio.gather(*(agents.find("acme", "researcher") for _ in range(50)))
    unknown = [await agents.find("acme", "nobody") for _ in range(3)]
    found.append(await agents.find("acme", "researcher"))

    assert isinstance(found[0], Route)
    assert len({id(route) for route in found}) == 1
    assert (unknown, registry.reads) == ([None] * 3, 2)


async def test_change_is_obeyed_within_a_second(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """A gateway under load calls the new upstream within a second of the change."""
    async with stub_upstream() as moved, gateway.client() as client:
        await client.post("/agents/researcher/x")
        changed_s = asyncio.get_running_loop().time()
        await acme.write_agent(org, "researcher", moved.url, {"mode": "flat", "cents": "3"})

        async def is_obeyed() -> bool:
            answer = await client.post("/agents/researcher/x")
            return answer.headers["budget-cost"] == "3"

        await until(is_obeyed, "the change to be obeyed")
        took_s = asyncio.get_running_loop().time() - changed_s
        await gateway.settled()

    assert moved.executions == 1
    assert upstream.executions >= 1
    # Half a second by design; the rest is for the machine.
    assert took_s < 5


async def test_old_description_is_never_used(tmp_path: Path) -> None:
    """An agent that nobody called for a second is read anew before it is called."""
    registry = Registry(researcher=FLAT)
    agents = agents_of(registry, tmp_path)
    read_s = time.monotonic()
    await agents.find("acme", "researcher")
    registry.texts.clear()
    await until(lambda: time.monotonic() - read_s > 2 * FRESH_S, "the description to be old")

    assert await agents.find("acme", "researcher") is None


async def test_new_agent_is_found_after_it_was_unknown(gateway: PlaneGateway, org: Any) -> None:
    """An agent that was asked for before it was added can be called within a second."""
    async with gateway.client() as client:
        assert (await client.post("/agents/writer/x")).status_code == 404
        await acme.write_agent(org, "writer", "http://127.0.0.1:9", {"mode": "flat", "cents": "1"})

        async def is_known() -> bool:
            return (await client.post("/agents/writer/x")).status_code != 404

        await until(is_known, "the agent to be known")


async def test_replaced_credentials_are_used(tmp_path: Path) -> None:
    """A secret that is replaced in its file is sent within a second; nothing else must change."""
    secret = tmp_path / "token"
    secret.write_text("old")
    agents = agents_of(Registry(researcher=FLAT | {"headers": {"a": "file:token"}}), tmp_path)

    before = await agents.find("acme", "researcher")
    secret.write_text("new")

    async def is_new() -> bool:
        found = await agents.find("acme", "researcher")
        return isinstance(found, Route) and found.added == ((b"a", b"new"),)

    await until(is_new, "the new secret to be read")
    assert isinstance(before, Route)
    assert before.added == ((b"a", b"old"),)


async def test_store_that_is_away_is_told(tmp_path: Path) -> None:
    """Who asks for an agent that was never read hears that the store is away."""
    registry = Registry(researcher=FLAT)
    registry.is_away = True
    agents = agents_of(registry, tmp_path)

    with pytest.raises(StoreUnavailable):
        await agents.find("acme", "researcher")
    registry.is_away = False

    assert isinstance(await agents.find("acme", "researcher"), Route)


async def test_caller_who_leaves_takes_nothing_from_the_others(tmp_path: Path) -> None:
    """A reading that many wait for goes on when one of them is cancelled."""
    registry = Registry(researcher=FLAT)
    agents = agents_of(registry, tmp_path)

    leaving = asyncio.create_task(agents.find("acme", "researcher"))
    staying = asyncio.create_task(agents.find("acme", "researcher"))
    await asyncio.sleep(0)
    leaving.cancel()

    assert isinstance(await staying, Route)
    assert registry.reads == 1


async def test_invented_names_do_not_fill_the_memory(tmp_path: Path) -> None:
    """What callers ask for is remembered up to a bound."""
    registry = Registry()
    agents = Agents(registry.read, Credentials({}, tmp_path), entries_max=2)

    for name in ("one", "two", "two", "three", "one"):
        await agents.find("acme", name)

    # The third name took the place of the first, which had to be read again.
    assert registry.reads == 4


@pytest.mark.parametrize(
    ("described", "why"),
    [
        ({"upstream": "ftp://x", "price": {"mode": "flat", "cents": "1"}}, "upstream"),
        ({"upstream": "http://x", "price": {"mode": "free"}}, "price.mode"),
        (FLAT | {"headers": {"a": "env:GATEWAY_CREDENTIAL_B"}}, "GATEWAY_CREDENTIAL_B"),
        (FLAT | {"headers": {"a": "env:HOME"}}, "env:HOME"),
        (FLAT | {"headers": {"a": "file:../secret"}}, "credentials folder"),
        (FLAT | {"headers": {"a": "file:missing"}}, "cannot be read"),
        (FLAT | {"surprise": 1}, "surprise"),
        ([1], "object"),
    ],
)
async def test_description_that_is_not_usable(tmp_path: Path, described: Any, why: str) -> None:
    """A description that cannot be used says which member is wrong, and is no route."""
    found = await agents_of(Registry(researcher=described), tmp_path).find("acme", "researcher")

    assert isinstance(found, Unusable)
    assert why in found.why


@pytest.mark.parametrize(
    ("path", "voice"),
    [
        (b"/v1/chat/completions", "openai"),
        (b"/openai/deployments/x/chat/completions?api-version=1", "openai"),
        (b"/v1/responses", "openai"),
        (b"/v1/responses/resp_1/cancel", "openai"),
        (b"/v1/embeddings", "openai"),
        (b"/v1/completions", "openai"),
        (b"/v1/messages", "anthropic"),
        (b"/v1/messages/count_tokens", "anthropic"),
        (b"/invoke", "generic"),
        (b"/v1/responsesheet", "generic"),
        (b"/x?next=/v1/messages", "generic"),
        (b"/", "generic"),
    ],
)
def test_path_tells_the_dialect(path: bytes, voice: str) -> None:
    """A path belongs to the API that it is one of; its query says nothing."""
    assert voice_of("auto", path) == voice
