"""The process serve: it starts with one sentence or not at all, and shows what it does."""

import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from gateway.cli.embedded_redis import EmbeddedRedis
from gateway.errors import ConfigError, StoreUnavailable
from gateway.proxy.listener import bind
from tests.proxy import acme
from tests.proxy.conftest import StartPlane, StartProcess
from tests.proxy.gateways import plane_gateway
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import openai_chat


def free_port() -> int:
    """Return a port that nothing listens on."""
    with bind("127.0.0.1", 0, "test") as probe:
        port: int = probe.getsockname()[1]
        return port


async def test_command_serves_and_stops(
    org: Any, redis_url: str, upstream: StubUpstream, start_process: StartProcess
) -> None:
    """The command forwards with credentials of its environment, and ends well when told to."""
    headers = {"authorization": "env:GATEWAY_CREDENTIAL_UP"}
    price = {"mode": "tokens"}
    await acme.write_agent(org, "researcher", upstream.url, price, headers=headers)
    upstream.answers(openai_chat())
    gateway = await start_process(redis_url, GATEWAY_CREDENTIAL_UP="Bearer sk-real")

    async with gateway.client() as client:
        answer = await client.post(
            "/agents/researcher/v1/chat/completions", json={"model": "gpt-4o-mini"}
        )
    code = await gateway.stop()

    assert (answer.status_code, answer.headers["budget-cost"], code) == (200, "0.00222", 0)
    assert upstream.requests[0].header(b"authorization") == b"Bearer sk-real"
    assert (await acme.counters(org))["org.spent"] == 2220
    assert "secret" not in gateway.log.read_text(encoding="utf-8")


async def test_ops_port_shows_state_and_metrics(
    org: Any, redis_url: str, start: StartPlane
) -> None:
    """Beside the data port, livez, readyz and metrics are served for those who operate it."""
    ops_port = free_port()
    gateway = await start(redis_url, ops_port=ops_port)

    async with gateway.client() as client:
        await client.post("/agents/researcher/invoke")
        await client.post("/agents/nobody/invoke")
        ready = await client.get("/readyz")
    await gateway.settled()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{ops_port}", trust_env=False) as ops:
        shown = (await ops.get("/metrics")).text.splitlines()
        states = [(await ops.get(path)).status_code for path in ("/livez", "/readyz")]

    assert 'budget_gateway_calls_total{end="forwarded"} 1.0' in shown
    assert 'budget_gateway_calls_total{end="unknown_agent"} 1.0' in shown
    assert 'budget_gateway_settles_total{word="SETTLED"} 1.0' in shown
    assert "budget_gateway_reserve_seconds_count 1.0" in shown
    assert "budget_gateway_upstream_seconds_count 1.0" in shown
    assert "budget_gateway_open_calls 0.0" in shown
    assert "budget_gateway_store_ready 1.0" in shown
    assert (ready.status_code, states) == (200, [200, 200])


async def test_gateway_is_not_ready_without_marker(
    org: Any, redis_url: str, start: StartPlane
) -> None:
    """Where Redis is empty /readyz says so in a sentence, and /livez stays well."""
    gateway = await start(redis_url)
    await org.delete("bg:node")

    async with gateway.client(key="") as client:

        async def is_not_ready() -> bool:
            return (await client.get("/readyz")).status_code == 503

        await until(is_not_ready, "the marker to be missed")
        said = (await client.get("/readyz")).text
        alive = await client.get("/livez")

    assert "bg:node" in said
    assert alive.status_code == 200


@pytest.mark.parametrize("setting", ["port", "ops_port"])
async def test_port_that_is_taken_stops_the_start(
    org: Any, redis_url: str, tmp_path: Path, setting: str
) -> None:
    """A taken port is one sentence with its setting, and nothing keeps running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"GATEWAY_{setting.upper()} 127\.0\.0\.1:{port} "):
            async with plane_gateway(redis_url, tmp_path, **{setting: port}):
                raise AssertionError("It must not start.")


async def test_redis_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    """A gateway does not begin without its Redis; once it has begun it waits for it."""
    with pytest.raises(StoreUnavailable):
        async with plane_gateway(f"redis://127.0.0.1:{free_port()}/0", tmp_path):
            raise AssertionError("It must not start.")


async def test_redis_that_loses_money_stops_the_start(
    own_redis: EmbeddedRedis, own_client: Redis, tmp_path: Path
) -> None:
    """A Redis that evicts keys is refused by the name of its setting."""
    await own_client.config_set("maxmemory-policy", "allkeys-lru")

    with pytest.raises(ConfigError, match="maxmemory-policy"):
        async with plane_gateway(own_redis.url, tmp_path):
            raise AssertionError("It must not start.")


def test_address_that_is_not_ours_is_refused() -> None:
    """A host of another machine cannot be bound; the sentence names the setting."""
    with pytest.raises(ConfigError, match=r"GATEWAY_PORT 192\.0\.2\.1:8080"):
        bind("192.0.2.1", 8080, "GATEWAY_PORT")


def test_host_without_an_address_names_the_host() -> None:
    """The port is not what is wrong."""
    with pytest.raises(ConfigError, match=r"GATEWAY_OPS_HOST no-such-host\.invalid"):
        bind("no-such-host.invalid", 8080, "GATEWAY_OPS_PORT")
