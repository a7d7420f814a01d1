"""The profile: what a Redis may forget of what it has confirmed, by its own settings.

``bench/durability.py`` measures what each of them forgets.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from redis.exceptions import ConnectionError, RedisError, TimeoutError

_SETTINGS = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite")


class Profile(NamedTuple):
    """One profile in a sentence; ``none`` promises nothing, ``unknown`` is one that none tells."""

    name: Literal["standard", "strict", "none", "unknown"]
    says: str


_STANDARD = Profile(
    "standard",
    "Profile standard: when the machine of Redis dies, it forgets up to its last second, two "
    "while the disk is slow.",
)
_STRICT = Profile("strict", "Profile strict: Redis forgets nothing that it has confirmed.")
_UNKNOWN = Profile(
    "unknown", "Profile unknown: Redis does not tell appendfsync, so what it may forget is unknown."
)


async def read_profile(redis: Any) -> Profile:
    """Return the profile of a server, from CONFIG or, where that is forbidden, from INFO.

    Redis errors other than a refusal leave as they are.
    """
    values = dict[str, str]()
    try:
        for setting in _SETTINGS:
            values |= {_text(name): _text(value) for name, value in await _found(redis, setting)}
    except (ConnectionError, TimeoutError):
        raise
    except RedisError:
        values = {"appendonly": "no"} if await _is_off(redis) else {}
    return _profile(values)


def _profile(values: Mapping[str, str]) -> Profile:
    if values.get("appendonly") == "no":
        return _none("appendonly is no, so a restart forgets all since the last save")
    fsync = values.get("appendfsync")
    if fsync == "no":
        return _none("appendfsync is no, so the system decides when something is on the disk")
    if fsync is None:
        return _UNKNOWN
    if values.get("no-appendfsync-on-rewrite") == "yes":
        return _none("no-appendfsync-on-rewrite is yes, so nothing is sure while a rewrite runs")
    return _STRICT if fsync == "always" else _STANDARD


def _none(why: str) -> Profile:
    return Profile("none", f"No profile: {why}.")


async def _found(redis: Any, setting: str) -> list[tuple[object, object]]:
    return list((await redis.config_get(setting)).items())


async def _is_off(redis: Any) -> bool:
    """Whether INFO says that there is no append-only file; where it is forbidden, nobody knows."""
    try:
        return str((await redis.info("persistence")).get("aof_enabled")) == "0"
    except (ConnectionError, TimeoutError):
        raise
    except RedisError:
        return False


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
