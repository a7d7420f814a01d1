"""The node: which Redis this is, what it was told to count, and whether it is set up to keep it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from redis.asyncio import Redis
from redis.exceptions import (
    ConnectionError,
    NoPermissionError,
    RedisError,
    TimeoutError,
    WatchError,
)

from gateway.budgets.keys import NODE
from gateway.domain.window import WindowKind
from gateway.errors import StoreError, StoreUnavailable

SCHEMA = 1
_VERSION_MIN = (6, 2)
_KINDS: tuple[WindowKind, ...] = get_args(WindowKind)


class Node(NamedTuple):
    """The node marker: the layout of the data, which life of it, and the windows it counts."""

    schema: int
    epoch: str
    windows: tuple[WindowKind, ...]


class Finding(NamedTuple):
    """A setting of the server that is not what the budgets need.

    ``refuse`` means that money could be lost or overspent; ``warn`` that less is promised.
    """

    severity: Literal["refuse", "warn"]
    setting: str
    found: str
    expected: str
    why: str

    def __str__(self) -> str:
        """Say it in one sentence."""
        return f"{self.setting} is {self.found}, expected {self.expected}: {self.why}."


class _Rule(NamedTuple):
    severity: Literal["refuse", "warn"]
    setting: str
    # The name before Redis 7, where it was another.
    older: str
    expected: tuple[str, ...]
    why: str


_RULES = (
    _Rule(
        "refuse", "maxmemory-policy", "", ("noeviction",), "eviction would forget what was spent"
    ),
    _Rule("warn", "appendonly", "", ("yes",), "a restart loses what was spent since the last save"),
    _Rule("warn", "appendfsync", "", ("everysec", "always"), "a crash loses up to 30 seconds"),
    _Rule("warn", "no-appendfsync-on-rewrite", "", ("no",), "a crash in a rewrite loses minutes"),
    _Rule("warn", "aof-use-rdb-preamble", "", ("yes",), "a restart takes longer"),
    _Rule(
        "warn",
        "hash-max-listpack-entries",
        "hash-max-ziplist-entries",
        ("64",),
        "larger lists slow every reservation of orgs with many agents",
    ),
    _Rule(
        "warn",
        "busy-reply-threshold",
        "lua-time-limit",
        ("1000",),
        "a script that hangs is noticed later",
    ),
)


def read_node(fields: Mapping[bytes, bytes]) -> Node | None:
    """Return what the hash ``bg:node`` says, or None where it is missing or not ready.

    Raises:
        ValueError: a field is malformed or of a layout that this release does not know.
    """
    if not fields or fields.get(b"ready") != b"1":
        return None
    schema, epoch = fields.get(b"schema", b""), fields.get(b"epoch", b"").decode()
    if schema != b"%d" % SCHEMA:
        raise ValueError(f"schema of {NODE} is {schema.decode()!r}; this release knows {SCHEMA}.")
    if not epoch:
        raise ValueError(f"epoch of {NODE} is missing.")
    return Node(SCHEMA, epoch, read_windows(fields.get(b"windows", b"").decode()))


def epoch_of(node: Node | None) -> str:
    """Return the epoch that the scripts are told; without a node they know none of that name."""
    return node.epoch if node is not None else "0"


def read_windows(text: str) -> tuple[WindowKind, ...]:
    """Return the window kinds of a comma list.

    Raises:
        ValueError: the list is empty, or has an unknown or a repeated kind.
    """
    words = text.split(",")
    kinds = tuple(kind for word in words for kind in _KINDS if kind == word)
    if len(kinds) != len(words) or len(set(kinds)) != len(kinds):
        raise ValueError(f"windows are {text!r}; expected a list of {', '.join(_KINDS)}.")
    return kinds


def marker_fields(node: Node, *, ready: bool = True) -> dict[str, str]:
    """Return the node marker as its hash; while it is not ready the gateways admit nothing."""
    return {
        "schema": str(node.schema),
        "epoch": node.epoch,
        "windows": ",".join(node.windows),
        "ready": "1" if ready else "0",
    }


async def write_marker(redis: Redis, node: Node, *, ready: bool = True) -> None:
    """Write the node marker.

    Raises:
        StoreError: Redis refused, or (StoreUnavailable) cannot be reached.
    """
    try:
        async with redis.pipeline() as pipeline:
            pipeline.hset(NODE, mapping=marker_fields(node, ready=ready))
            await pipeline.execute()
    except RedisError as error:
        raise _fault(error) from error


async def amend_marker(redis: Any, fields: Mapping[str, str], gone: Sequence[str] = ()) -> bool:
    """Set and take away fields of a node marker that is ready; false where none stands there.

    Also where somebody else has changed it at the same moment: then look again.

    Raises:
        StoreError: Redis refused, or (StoreUnavailable) cannot be reached.
    """
    try:
        async with redis.pipeline() as pipeline:
            # A marker that is gone must stay so: a rebuild takes what is there for another's.
            await pipeline.watch(NODE)
            if _text(await pipeline.hget(NODE, "ready")) != "1":
                return False
            pipeline.multi()
            pipeline.hset(NODE, mapping=dict(fields))
            if gone:
                pipeline.hdel(NODE, *gone)
            await pipeline.execute()
    except WatchError:
        return False
    except RedisError as error:
        raise _fault(error) from error
    return True


async def check_server(redis: Redis) -> list[Finding]:
    """Return every setting that is not as the budgets need it, the worst first.

    Where CONFIG is forbidden (managed Redis) INFO says what it can; where that is forbidden too,
    nothing can be checked, which is a finding.

    Raises:
        StoreError: Redis refused, or (StoreUnavailable) cannot be reached.
    """
    try:
        info: dict[str, object] = await redis.info("everything")
    except NoPermissionError:
        return [
            Finding("warn", "INFO", "forbidden", "allowed", "nothing of the server was checked")
        ]
    except RedisError as error:
        raise _fault(error) from error
    try:
        found = [*_check_kind(info), *_check_settings(*await _settings(redis, info))]
    except RedisError as error:
        raise _fault(error) from error
    return sorted(found, key=lambda finding: finding.severity != "refuse")


def _check_kind(info: Mapping[str, object]) -> list[Finding]:
    version, findings = str(info.get("redis_version", "0")), list[Finding]()
    if tuple(int(part) for part in version.split(".")[:2]) < _VERSION_MIN:
        why = "the scripts need commands of 6.2"
        findings.append(Finding("refuse", "redis_version", version, "6.2 or newer", why))
    if info.get("role") != "master":
        why = "a replica accepts no writes"
        findings.append(Finding("refuse", "role", str(info.get("role")), "master", why))
    if info.get("cluster_enabled"):
        why = "journal and expiry index are keys of one node"
        findings.append(Finding("refuse", "cluster-enabled", "yes", "no", why))
    return findings


async def _settings(redis: Redis, info: Mapping[str, object]) -> tuple[dict[str, str], bool]:
    try:
        names = [name for rule in _RULES for name in (rule.setting, rule.older) if name]
        values: dict[str, str] = {}
        for name in names:
            answer = await redis.config_get(name)
            values |= {_text(key): _text(value) for key, value in answer.items()}
    except (ConnectionError, TimeoutError):
        raise
    except RedisError:
        aof = "yes" if info.get("aof_enabled") else "no"
        return {"maxmemory-policy": str(info.get("maxmemory_policy")), "appendonly": aof}, False
    return values, True


def _check_settings(values: Mapping[str, str], complete: bool) -> list[Finding]:
    findings = []
    for rule in _RULES:
        found = values.get(rule.setting, values.get(rule.older))
        if found is not None and found not in rule.expected:
            expected = " or ".join(rule.expected)
            findings.append(Finding(rule.severity, rule.setting, found, expected, rule.why))
    if not complete:
        why = "only the eviction policy and the append-only file were checked, through INFO"
        findings.append(Finding("warn", "CONFIG GET", "forbidden", "allowed", why))
    return findings


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _fault(error: RedisError) -> StoreError:
    if isinstance(error, (ConnectionError, TimeoutError)):
        return StoreUnavailable(f"Redis cannot be reached: {error}.")
    return StoreError(f"Redis refused: {error}.")
