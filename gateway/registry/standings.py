"""Standings: where every budget of an org stands, now or after a change of its limits."""

from collections.abc import Mapping
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from gateway.budgets.keys import NODE, org_key, spend_key
from gateway.budgets.node import read_windows
from gateway.budgets.proposals import DEFAULT_ZONE
from gateway.budgets.records import read_counters
from gateway.domain.budget import (
    Budget,
    Counters,
    Invalid,
    available,
    chain_of,
    decide,
    field_of,
)
from gateway.domain.key import is_id
from gateway.domain.limits import check_field
from gateway.domain.window import Window, WindowKind
from gateway.errors import BadRequest, StoreError
from gateway.registry.clients import RedisClient
from gateway.registry.limits import DEFAULT_WINDOWS, agent_of
from gateway.registry.windows import running_windows, stored_windows

# The word with which the next call that costs anything would be answered.
NextCall = Literal["HELD", "BUSY", "DENIED", "FROZEN", "LIMITS_INVALID"]

_LONGEST_FIRST: tuple[WindowKind, ...] = ("total", "month", "week", "day", "hour")
_NONE = Counters(0, 0, 0)


class Standing(NamedTuple):
    """One budget, or the spend of a scope that nothing limits: then ``budget`` is None."""

    scope: str
    window: Window
    budget: Budget | None
    counters: Counters
    next_call: NextCall

    @property
    def available_microcents(self) -> int | None:
        """What a new hold could take; None where nothing limits it."""
        return available(self.budget, self.counters) if self.budget is not None else None


class Standings(NamedTuple):
    """Every budget of an org: the org's first, then by agent, the longest window first.

    ``invalid`` names per scope the limits field that refuses its calls; the org's refuses all.
    """

    org: str
    agents: frozenset[str]
    windows: tuple[Window, ...]
    standings: tuple[Standing, ...]
    invalid: dict[str, str]


class _Live(NamedTuple):
    kinds: tuple[WindowKind, ...]
    fields: dict[str, str]
    meta: dict[str, str]
    agents: list[str]
    now_ms: int


class _State(NamedTuple):
    live: _Live
    limits: dict[str, str]
    counters: dict[tuple[str, WindowKind], Counters]
    zone_refuses: bool


async def read_standings(
    redis: RedisClient, org: str, changes: Mapping[str, str | None] | None = None
) -> Standings:
    """Return where the budgets of an org stand, as if ``changes`` were made (None removes).

    Raises:
        BadRequest: Redis knows no such org.
    """
    live = await _read(redis, org)
    fields = {**live.fields, **(changes or {})}
    limits = {field: value for field, value in fields.items() if value is not None}
    zone = limits.get("timezone", DEFAULT_ZONE)
    is_zone = check_field("timezone", zone, ()) is None
    windows = running_windows(
        live.meta, live.kinds, ZoneInfo(zone if is_zone else DEFAULT_ZONE), live.now_ms
    )
    counters = await _counters(redis, org, windows)
    # The zone is consulted where a window opens; those that run have their bounds.
    opens = len(stored_windows(live.meta, live.kinds, live.now_ms)) < len(live.kinds)
    return _standings(org, _State(live, limits, counters, opens and not is_zone), windows)


async def _read(redis: RedisClient, org: str) -> _Live:
    if not is_id(org):
        raise BadRequest(f"org is {org!r}; expected 1 to 48 letters, digits, _ or -.")
    async with redis.pipeline(transaction=True) as pipe:
        pipe.hget(NODE, "windows")
        pipe.hgetall(org_key(org, "limits"))
        pipe.hgetall(org_key(org, "meta"))
        pipe.hkeys(org_key(org, "agents"))
        pipe.time()
        kinds, fields, meta, agents, (seconds, microseconds) = await pipe.execute()
    if not fields and "schema" not in meta:
        raise BadRequest(f"org {org} is not known to Redis; add it first.")
    try:
        counted = read_windows(kinds or DEFAULT_WINDOWS)
    except ValueError as error:
        raise StoreError(f"The marker {NODE} cannot be used: {error}") from error
    now_ms = max(seconds * 1000 + microseconds // 1000, int(meta.get("now", 0)))
    ordered = tuple(kind for kind in _LONGEST_FIRST if kind in counted)
    return _Live(ordered, fields, meta, agents, now_ms)


async def _counters(
    redis: RedisClient, org: str, windows: tuple[Window, ...]
) -> dict[tuple[str, WindowKind], Counters]:
    async with redis.pipeline(transaction=True) as pipe:
        for window in windows:
            pipe.hgetall(spend_key(org, window))
        hashes: list[dict[str, str]] = await pipe.execute()
    return {
        (scope, window.kind): counters
        for window, fields in zip(windows, hashes, strict=True)
        for scope, counters in read_counters(fields, window.kind).items()
    }


def _standings(org: str, state: _State, windows: tuple[Window, ...]) -> Standings:
    agents = frozenset(
        {
            *state.live.agents,
            *(scope.removeprefix("agent.") for scope, _ in state.counters if scope != "org"),
            *(agent for field in state.limits if (agent := agent_of(field)) is not None),
        }
    )
    standings = list[Standing]()
    invalid = {"org": "timezone"} if state.zone_refuses else dict[str, str]()
    for agent in ("", *sorted(agents)):
        scope = f"agent.{agent}" if agent else "org"
        chain = chain_of(state.limits, agent, state.live.kinds, state.live.now_ms)
        if isinstance(chain, Invalid):
            # What refuses the whole org is told once.
            if chain.field != invalid.get("org"):
                invalid.setdefault(scope, chain.field)
            chain = ()
        budgets = {budget.window: budget for budget in chain if budget.scope == scope}
        for window in windows:
            counters = state.counters.get((scope, window.kind), _NONE)
            budget = budgets.get(window.kind)
            if budget is not None or any(counters):
                word = _refusal(state, agent, {"org", scope} & invalid.keys())
                if word is None:
                    word = decide([budget], [counters], 1).word if budget is not None else "HELD"
                standings.append(Standing(scope, window, budget, counters, word))
    return Standings(org, agents, windows, tuple(standings), invalid)


def _refusal(state: _State, agent: str, invalid: set[str]) -> NextCall | None:
    if invalid:
        return "LIMITS_INVALID"
    states = [state.limits.get("status"), state.live.meta.get("billing_status")]
    if agent:
        states.append(state.limits.get(field_of(state.limits, f"agent.{agent}", "status")))
    return "FROZEN" if "frozen" in states else None


def standing_of(standings: Standings, budget: str) -> Standing:
    """Return where ``org.month`` or ``agent.researcher.day`` stands, limited or not.

    Raises:
        BadRequest: it names no budget of this org.
    """
    scope, _, kind = budget.removeprefix(f"{standings.org}:").rpartition(".")
    scopes = {"org", *(f"agent.{agent}" for agent in standings.agents)}
    windows = {window.kind: window for window in standings.windows}
    running = next((window for window in windows.values() if window.kind == kind), None)
    if scope not in scopes or running is None:
        raise BadRequest(
            f"budget is {budget!r}; expected org.<window> or agent.<agent>.<window> with a window "
            f"of {', '.join(windows)} and an agent of {standings.org}."
        )
    for standing in standings.standings:
        if (standing.scope, standing.window) == (scope, running):
            return standing
    return Standing(scope, running, None, _NONE, "HELD")
