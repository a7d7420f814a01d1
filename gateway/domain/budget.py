"""Budgets: limits on a scope over a window, and whether an amount fits into all of a chain.

The scripts decide for real, at the instant of the call. This is the same decision for who wants to
know it beforehand: a dry run, a dashboard, the model that the scripts are tested against.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, cast, get_args

from gateway.domain.money import microcents_from_cents
from gateway.domain.window import WindowKind

Mode = Literal["hard", "soft", "shadow"]

WARN_AT_BP_DEFAULT = 8_000
_BP_PER_WHOLE = 10_000
# The order in which the budgets of one scope refuse.
_LONGEST_FIRST: tuple[WindowKind, ...] = ("total", "month", "week", "day", "hour")
_RULES = ("per_call_cents", "concurrency", "rpm")
_HOLD_TTL_MS = re.compile(r"[1-9][0-9]{0,7}")
_SHARE = re.compile(r"([01])(?:\.([0-9]{1,4}))?")
_UNTIL_S = re.compile(r"[0-9]{1,11}")


class Budget(NamedTuple):
    """A limit on one scope, ``org`` or ``agent.<id>``; a running override is part of it."""

    scope: str
    window: WindowKind
    limit_microcents: int
    mode: Mode
    warn_at_bp: int

    @property
    def name(self) -> str:
        """How answers and operators call it: ``agent.researcher.day``."""
        return f"{self.scope}.{self.window}"


class Counters(NamedTuple):
    """What one scope has spent, holds and was credited in one window, in microcents."""

    spent_microcents: int
    held_microcents: int
    credit_microcents: int


class Invalid(NamedTuple):
    """The limits refuse every call that consults this field: it is missing or malformed."""

    field: str


class Decision(NamedTuple):
    """Whether an amount fits into a chain.

    ``budget`` is the one that refuses, or else the tightest, None where nothing limits the call
    but shadow budgets. ``available_microcents`` is what that budget has left: with the amount
    held where it fits, without it where it is refused. ``warned`` are the budgets that an admitted
    amount leaves past their warning or without room, in the order of the chain; no shadow ones.
    """

    word: Literal["HELD", "BUSY", "DENIED"]
    budget: Budget | None
    available_microcents: int
    warned: tuple[Budget, ...]


def chain_of(
    fields: Mapping[str, str], agent: str, windows: Sequence[WindowKind], now_ms: int
) -> tuple[Budget, ...] | Invalid:
    """Return the budgets that must all pay for a call of an agent, as the limits hash sets them.

    In the order in which they refuse: the org's before the agent's, the longer window before the
    shorter. ``agent`` may be empty: then only the org's. ``windows`` is the deployment's list. A
    field that such a call would not read is not looked at. ``timezone`` is none of it: a zone
    that is not one refuses where a window opens.
    """
    scopes = ("org", f"agent.{agent}") if agent else ("org",)
    invalid = _invalid_rule(fields, scopes)
    if invalid is not None:
        return Invalid(invalid)
    limits = [
        (scope, window, field)
        for scope in scopes
        for window in _LONGEST_FIRST
        if (field := field_of(fields, scope, f"{window}.limit_cents")) in fields
    ]
    for _, window, field in limits:
        if window not in windows or not _is_number(fields[field]):
            return Invalid(field)
    # One org window must be named, even with `none`: a misspelt field must not open the gate.
    if not any(scope == "org" for scope, _, _ in limits):
        return Invalid("org.<window>.limit_cents")
    chain = []
    for scope, window, field in limits:
        limit_microcents = microcents_from_cents(fields[field])
        if limit_microcents is not None:
            budget = _budget(fields, scope, window, limit_microcents, now_ms)
            if isinstance(budget, Invalid):
                return budget
            chain.append(budget)
    return tuple(chain)


def field_of(fields: Mapping[str, str], scope: str, setting: str) -> str:
    """Return the field that decides a setting: the scope's own, or else that of ``agent.*``."""
    own = f"{scope}.{setting}"
    return own if own in fields or scope == "org" else f"agent.*.{setting}"


def available(budget: Budget, counters: Counters) -> int:
    """Return the microcents that a new hold could take; below zero where it is overspent."""
    return _effective_limit(budget, counters) - counters.spent_microcents - counters.held_microcents


def is_past_warning(budget: Budget, counters: Counters, amount_microcents: int = 0) -> bool:
    """Whether spent and held, with an amount on top, reach the budget's share of its limit."""
    used = counters.spent_microcents + counters.held_microcents + amount_microcents
    threshold = _effective_limit(budget, counters) * budget.warn_at_bp // _BP_PER_WHOLE
    return used > 0 and used >= threshold


def decide(
    chain: Sequence[Budget], counters: Sequence[Counters], amount_microcents: int
) -> Decision:
    """Return whether an amount fits into every budget of a chain, given the counters of each.

    DENIED where a budget has no room whatever is held, BUSY where only holds are in the way;
    within one word the first budget of the chain is the one that refuses. An amount of zero
    always fits. An extension is decided as its new amount, with counters that do not hold the old.
    """
    books = [
        (budget, numbers, available(budget, numbers))
        for budget, numbers in zip(chain, counters, strict=True)
    ]
    full = [budget for budget, _, left in books if 0 < amount_microcents > left]
    refusing = [book for book in books if book[0] in full and book[0].mode == "hard"]
    for budget, numbers, left in refusing:
        if amount_microcents > left + numbers.held_microcents:
            return Decision("DENIED", budget, left, ())
    if refusing:
        budget, _, left = refusing[0]
        return Decision("BUSY", budget, left, ())
    told = [book for book in books if book[0].mode != "shadow"]
    warned = tuple(
        budget
        for budget, numbers, _ in told
        if budget in full or is_past_warning(budget, numbers, amount_microcents)
    )
    if not told:
        return Decision("HELD", None, 0, warned)
    tightest, _, left = min(told, key=lambda book: book[2])
    return Decision("HELD", tightest, left - amount_microcents, warned)


def _effective_limit(budget: Budget, counters: Counters) -> int:
    return budget.limit_microcents + counters.credit_microcents


def _invalid_rule(fields: Mapping[str, str], scopes: Sequence[str]) -> str | None:
    if not _is_status(fields.get("status", "")):
        return "status"
    for field in (field_of(fields, scope, "status") for scope in scopes[1:]):
        if not _is_status(fields.get(field, "active")):
            return field
    if _HOLD_TTL_MS.fullmatch(fields.get("hold_ttl_ms", "1")) is None:
        return "hold_ttl_ms"
    rules = [field_of(fields, scope, rule) for scope in scopes for rule in _RULES]
    # What an agent sets of its own is read before what it falls back to.
    for field in sorted(rules, key=lambda field: field.startswith("agent.*.")):
        if field in fields and not _is_number(fields[field]):
            return field
    return None


def _is_status(text: str) -> bool:
    return text in ("active", "frozen")


def _budget(
    fields: Mapping[str, str], scope: str, window: WindowKind, limit_microcents: int, now_ms: int
) -> Budget | Invalid:
    mode_field = field_of(fields, scope, f"{window}.mode")
    mode = fields.get(mode_field, "hard")
    if mode not in get_args(Mode):
        return Invalid(mode_field)
    warn_at = fields.get(field_of(fields, scope, f"{window}.warn_at"))
    override_field = field_of(fields, scope, f"{window}.override_cents")
    until = fields.get(field_of(fields, scope, f"{window}.override_until"))
    # Without a valid end in the future it would last for ever, so it is not even looked at.
    if override_field in fields and _is_ahead(until, now_ms):
        override_microcents = microcents_from_cents(fields[override_field])
        if override_microcents is None:
            return Invalid(override_field)
        limit_microcents = max(limit_microcents, override_microcents)
    return Budget(scope, window, limit_microcents, cast(Mode, mode), _share_bp(warn_at))


def _is_ahead(until_s: str | None, now_ms: int) -> bool:
    return bool(until_s and _UNTIL_S.fullmatch(until_s)) and int(until_s or 0) * 1000 > now_ms


def _share_bp(text: str | None) -> int:
    match = _SHARE.fullmatch(text or "")
    share_bp = int(match[1] + (match[2] or "").ljust(4, "0")) if match else 0
    # A share that cannot be read never closes the gate and never silences a warning.
    return share_bp if 0 < share_bp <= _BP_PER_WHOLE else WARN_AT_BP_DEFAULT


def _is_number(text: str) -> bool:
    return text == "none" or microcents_from_cents(text) is not None
