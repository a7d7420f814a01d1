"""The command doctor: what it says of the profile of Redis."""

import pytest
from redis.asyncio import Redis

from tests.cli.conftest import Run
from tests.servers import Servers


async def durability(command: Run) -> tuple[str, str]:
    """Return what doctor finds of the profile: its state, and the sentence."""
    checks = (await command("doctor", "--json")).document["checks"]
    [found] = [check for check in checks if check["subject"] == "durability"]
    return found["state"], found["says"]


async def test_doctor_names_the_profile(command: Run) -> None:
    """An operator reads what this Redis may forget without knowing its settings."""
    state, says = await durability(command)

    assert state == "ok"
    assert says.startswith("Profile standard:")


@pytest.mark.parametrize("denied", [False, True])
async def test_doctor_warns_where_no_profile_is_sure(
    command: Run, servers: Servers, monkeypatch: pytest.MonkeyPatch, denied: bool
) -> None:
    """Without fsync nothing is promised, and where CONFIG is forbidden nobody can tell."""
    server = servers.own_redis(appendfsync="no")
    monkeypatch.setenv("GATEWAY_REDIS_URL", server.url)
    if denied:
        async with Redis.from_url(server.url) as redis:
            await redis.execute_command("ACL", "SETUSER", "default", "-config")

    state, says = await durability(command)

    assert state == "warn"
    assert says.startswith("Profile unknown:" if denied else "No profile: appendfsync is no")
