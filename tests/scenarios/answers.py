"""Answers: what a verb has answered, in the words of a scenario table."""

import re
from datetime import UTC, datetime

from gateway.domain.money import cents_from_microcents as cents
from gateway.domain.reservation import (
    Denied,
    ExtendOutcome,
    Finished,
    Gone,
    Held,
    Refused,
    Released,
    ReserveOutcome,
    Settled,
)

_PAIR = re.compile(r"\b(limit|spent|held|available|credit|resets|cost|over|warns) (\S+)")


def say(outcome: ReserveOutcome | ExtendOutcome | Settled | Released | str | None) -> str:
    """Return an outcome as words: its status and subject, then pairs of a name and a value."""
    match outcome:
        case None:
            return ""
        case str():
            return outcome
        case Held(budget=""):
            return "HELD"
        case Held():
            left = f"available {cents(outcome.available_microcents)}"
            warns = f" warns {','.join(outcome.warnings)}" if outcome.warnings else ""
            return f"HELD {outcome.budget} {left}{_resets(outcome.resets_ms)}{warns}"
        case Denied():
            numbers = (
                f"limit {cents(outcome.limit_microcents)} spent {cents(outcome.spent_microcents)} "
                f"held {cents(outcome.held_microcents)} credit {cents(outcome.credit_microcents)} "
                f"available {cents(outcome.available_microcents)}"
            )
            return f"{outcome.reason} {outcome.budget} {numbers}{_resets(outcome.resets_ms)}"
        case Refused():
            limit = f" limit {cents(outcome.limit)}" if outcome.reason == "PER_CALL" else ""
            return f"{outcome.reason} {outcome.detail}".strip() + limit
        case Finished():
            return f"DONE {outcome.state} cost {cents(outcome.cost_microcents)}"
        case Settled():
            over = f" over {cents(outcome.over_microcents)}" if outcome.over_microcents else ""
            return f"{outcome.status} cost {cents(outcome.cost_microcents)}{over}"
        case Released():
            return f"{outcome.status} {outcome.state} cost {cents(outcome.cost_microcents)}"
        case Gone():
            return "GONE"
    raise LookupError(f"A table has no words for {outcome}.")


def tells(expected: str, answer: str) -> bool:
    """Whether an answer begins with the expected words and has all of the expected pairs.

    ``...`` expects nothing.
    """
    if expected == "...":
        return True
    wanted, given = _PAIR.sub("", expected).split(), _PAIR.sub("", answer).split()
    pairs = set(_PAIR.findall(expected)) <= set(_PAIR.findall(answer))
    return given[: len(wanted)] == wanted and pairs


def _resets(resets_ms: int) -> str:
    if not resets_ms:
        return ""
    return f" resets {datetime.fromtimestamp(resets_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
