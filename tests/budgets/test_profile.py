"""The profile of a server: what it may forget is told by its settings, or that nobody tells."""

from collections.abc import Callable, Mapping

import pytest
from redis.asyncio import Redis

from gateway.budgets.profile import read_profile
from gateway.cli.embedded_redis import EmbeddedRedis
from tests.servers import SCRIPT_SERVERS, Servers


@pytest.mark.parametrize("name", SCRIPT_SERVERS)
async def test_server_of_ours_is_standard(
    script_server: Callable[[str], EmbeddedRedis], name: str
) -> None:
    """What the gateway starts and recommends forgets at most its last two seconds."""
    async with Redis.from_url(script_server(name).url) as redis:
        profile = await read_profile(redis)

    assert profile.name == "standard"
    assert "last second" in profile.says


@pytest.mark.parametrize(
    ("changes", "name", "word"),
    [
        ({"appendfsync": "always"}, "strict", "nothing"),
        ({"appendfsync": "no"}, "none", "appendfsync is no"),
        ({"appendonly": "no"}, "none", "appendonly is no"),
        ({"no-appendfsync-on-rewrite": "yes"}, "none", "no-appendfsync-on-rewrite"),
        ({"appendfsync": "always", "no-appendfsync-on-rewrite": "yes"}, "none", "rewrite"),
    ],
)
async def test_setting_makes_the_profile(
    servers: Servers, changes: Mapping[str, str], name: str, word: str
) -> None:
    """One setting that gives the promise away is enough, and it is named."""
    server = servers.own_redis(**{key.replace("-", "_"): value for key, value in changes.items()})
    async with Redis.from_url(server.url, decode_responses=True) as redis:
        profile = await read_profile(redis)

    assert profile.name == name
    assert word in profile.says


@pytest.mark.parametrize(
    ("appendonly", "denied", "name"),
    [
        ("yes", ("-config",), "unknown"),
        ("no", ("-config",), "none"),
        ("no", ("-config", "-info"), "unknown"),
    ],
)
async def test_profile_that_is_not_told_is_not_guessed(
    servers: Servers, appendonly: str, denied: tuple[str, ...], name: str
) -> None:
    """Where CONFIG is forbidden INFO tells whether there is a file, but not when it is synced."""
    server = servers.own_redis(appendonly=appendonly, appendfsync="always")
    async with Redis.from_url(server.url) as redis:
        await redis.execute_command("ACL", "SETUSER", "default", *denied)

        assert (await read_profile(redis)).name == name
