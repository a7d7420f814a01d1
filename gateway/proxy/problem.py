"""Problems: every refusal and fault as an HTTP status and a word.

The only place that knows which status an outcome or an error has; ``dialect`` says it aloud.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple, assert_never

import orjson

from gateway.budgets.changes import Request
from gateway.domain.money import cents_from_microcents
from gateway.domain.reservation import Denied, Finished, KeyWord, Refused, Replayed
from gateway.errors import GatewayError, UpstreamUnreachable

RETRY_AFTER_MAX_S = 60


class Kind(NamedTuple):
    """How an error word goes over the wire."""

    status: int
    title: str
    # None says nothing, so that the SDKs decide by the status.
    retry: bool | None = None
    retry_after_s: int = 0


# Emptied, being rebuilt, or of another release: callers cannot mend any of them.
_NOT_READY = "The budget store is not ready; /readyz of the gateway tells why."
KINDS: Mapping[str, Kind] = {
    "bad_request": Kind(400, "Bad request"),
    "unauthenticated": Kind(401, "Unauthenticated"),
    "budget_exceeded": Kind(402, "Budget exceeded", retry=False),
    "per_call_limit_exceeded": Kind(402, "Per-call limit exceeded", retry=False),
    "price_unknown": Kind(402, "Price unknown", retry=False),
    "frozen": Kind(403, "Frozen"),
    "agent_not_allowed": Kind(403, "Agent not allowed"),
    "not_found": Kind(404, "Not found"),
    "unknown_agent": Kind(404, "Unknown agent"),
    "reservation_not_found": Kind(404, "Reservation not found"),
    "method_not_allowed": Kind(405, "Method not allowed"),
    "idempotency_conflict": Kind(409, "A call with this key is running", retry_after_s=1),
    "idempotency_completed": Kind(409, "A call with this key has ended", retry=False),
    "idempotency_mismatch": Kind(422, "This key belongs to another request"),
    "body_too_large": Kind(413, "Body too large"),
    "budget_held": Kind(429, "Budget held", retry_after_s=1),
    "rate_limited": Kind(429, "Rate limited", retry_after_s=1),
    "concurrency_limited": Kind(429, "Too many calls at once", retry_after_s=1),
    "headers_too_large": Kind(431, "Headers too large"),
    "internal_error": Kind(500, "Internal error"),
    "not_supported": Kind(501, "Not supported"),
    "upstream_unreachable": Kind(502, "Upstream unreachable"),
    "upstream_broken": Kind(502, "Upstream broken", retry=False),
    "budget_store_unavailable": Kind(503, "Budget store unavailable", retry_after_s=1),
    "store_not_ready": Kind(503, "Budget store not ready", retry_after_s=1),
    "journal_full": Kind(503, "Journal full", retry_after_s=1),
    "limits_invalid": Kind(503, "Limits invalid", retry_after_s=1),
    "upstream_circuit_open": Kind(503, "Upstream circuit open", retry_after_s=1),
    "clock_skew": Kind(503, "Clock skew", retry_after_s=1),
    "draining": Kind(503, "Draining", retry_after_s=1),
    "upstream_timeout": Kind(504, "Upstream timeout", retry=False),
}


class Problem(NamedTuple):
    """One answer that the gateway makes itself; ``error`` is a word of KINDS."""

    error: str
    detail: str
    members: Mapping[str, object] = {}
    retry_after_s: int = 0

    @property
    def status(self) -> int:
        """The HTTP status."""
        return KINDS[self.error].status


def cents(amount_microcents: int) -> orjson.Fragment:
    """Return an amount as an exact JSON number of cents."""
    return orjson.Fragment(cents_from_microcents(amount_microcents))


def instant(epoch_ms: int) -> str:
    """Return an instant as RFC 3339 in UTC."""
    return datetime.fromtimestamp(epoch_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def of_denied(denied: Denied, org: str, requested_microcents: int, *, visible: bool) -> Problem:
    """Return the answer to a budget without room; ``visible`` allows the amounts."""
    scope, _, window = denied.budget.rpartition(".")
    owner, _, agent = scope.partition(".")
    whose = f"agent {agent!r}" if agent else f"org {org!r}"
    members: dict[str, object] = {
        "budget_id": f"{org}:{denied.budget}",
        "scope": owner,
        "window": window,
    }
    if visible:
        members |= {
            "limit_cents": cents(denied.limit_microcents),
            "credit_cents": cents(denied.credit_microcents),
            "current_usage_cents": cents(denied.spent_microcents),
            "held_cents": cents(denied.held_microcents),
        }
    members["requested_cents"] = cents(requested_microcents)
    resets = instant(denied.resets_ms) if denied.resets_ms else None
    members["resets_at"] = resets
    until = f"; it resets at {resets}" if resets else ""
    if denied.reason == "DENIED":
        detail = f"The {window} budget of {whose} has no room for this call{until}."
        return Problem("budget_exceeded", detail, members)
    detail = f"The {window} budget of {whose} has room only when calls in flight end."
    return Problem("budget_held", detail, members)


def of_refused(refused: Refused, *, node_stands: bool, visible: bool = True) -> Problem:
    """Return the answer to a refusal; ``node_stands`` is whether the store is believed."""
    match refused.reason:
        case "COLD" | "UNKNOWN_KEY" | "KEY_EXPIRED" | "AGENT_NOT_ALLOWED":
            return of_key(refused.reason, node_stands=node_stands)
        case "CLOCK":
            return Problem("clock_skew", "The clocks of gateway and store are too far apart.")
        case "LIMITS_INVALID":
            detail = f"The limit field {refused.detail} is missing or malformed."
            return Problem("limits_invalid", detail, {"field": refused.detail})
        case "FROZEN":
            return Problem("frozen", f"Frozen: {refused.detail}.", {"scope": refused.detail})
        case "WINDOW":
            return Problem("budget_store_unavailable", "The running windows could not be agreed.")
        case "JOURNAL_FULL":
            return Problem("journal_full", "The journal is full; is a worker running?")
        case "PER_CALL":
            members: dict[str, object] = {"scope": refused.detail}
            if visible:
                members["limit_cents"] = cents(refused.limit)
            detail = f"This call may cost more than one call of {refused.detail} may."
            return Problem("per_call_limit_exceeded", detail, members)
        case "CONCURRENCY":
            calls = (
                f"its limit of {refused.limit} calls" if visible else "all the calls it may have"
            )
            detail = f"{refused.detail} has {calls} in flight."
            return Problem("concurrency_limited", detail, {"scope": refused.detail})
        case "RATE":
            detail = f"{refused.detail} has used its calls of this minute."
            wait_s = min(-(-refused.retry_ms // 1000), RETRY_AFTER_MAX_S)
            return Problem("rate_limited", detail, {"scope": refused.detail}, wait_s)
        case "BADARG" | "MISMATCH":
            return Problem("internal_error", "The gateway made a mistake; nothing was spent.")
        case _:
            assert_never(refused.reason)


def of_key(word: KeyWord, *, node_stands: bool) -> Problem:
    """Return the answer to a key that may not be used, unless the store is not to be believed."""
    if not node_stands:
        return Problem("store_not_ready", _NOT_READY)
    if word == "AGENT_NOT_ALLOWED":
        return Problem("agent_not_allowed", "This key may not call this agent.")
    if word == "KEY_EXPIRED":
        return Problem("unauthenticated", "The API key has expired.")
    return unauthenticated()


def unauthenticated() -> Problem:
    """Return the answer to a missing or unknown key; it never says which part was wrong."""
    return Problem("unauthenticated", "A valid API key of this gateway is needed.")


def unknown_agent(agent: str) -> Problem:
    """Return the answer to an agent that the org does not have."""
    return Problem("unknown_agent", f"There is no agent {agent!r}.")


def no_reservation(ended: Request | None = None) -> Problem:
    """Return the answer to an id that its caller has no open reservation for.

    ``ended`` is where it had one; of any other the answer is the same, whatever there is.
    """
    if ended is None:
        return Problem("reservation_not_found", "There is no such reservation of this key.")
    members = {"state": ended.state, "cost_cents": cents(ended.cost_microcents)}
    return Problem("reservation_not_found", "The reservation has ended.", members)


def too_large(bytes_max: int) -> Problem:
    """Return the answer to a body that is longer than allowed."""
    return Problem("body_too_large", f"The body is longer than {bytes_max} bytes.")


def method_not_allowed(allowed: str) -> Problem:
    """Return the answer to a method that is none of these; RFC 9110 15.5.6 wants them told."""
    return Problem("method_not_allowed", f"Use {allowed} here.", {"allow": allowed})


def of_replayed(replayed: Replayed, body_digest: str) -> Problem:
    """Return the answer to an idempotency key that another call has."""
    if replayed.body_digest != body_digest:
        return Problem("idempotency_mismatch", "The Idempotency-Key came with another request.")
    members = {"reservation_id": replayed.id, "state": replayed.state}
    if replayed.state == "held":
        return Problem("idempotency_conflict", "The first call with this key is running.", members)
    return Problem(
        "idempotency_completed",
        "The first call with this key has ended; its answer is not kept.",
        members | {"cost_cents": cents(replayed.cost_microcents)},
    )


def of_finished(finished: Finished) -> Problem:
    """Return the answer to a reserve whose fresh id has ended already: a mistake of ours."""
    return Problem("internal_error", f"The reservation is {finished.state} already.")


def of_error(error: GatewayError, charged_microcents: int | None = None) -> Problem:
    """Return the answer to a fault; ``charged_microcents`` is what the call has cost anyway."""
    known = error.code if error.code in KINDS else "internal_error"
    members = {} if charged_microcents is None else {"charged_cents": cents(charged_microcents)}
    if known == "internal_error":
        return Problem(known, "The gateway failed.", members)
    if isinstance(error, UpstreamUnreachable):
        return Problem(known, "The upstream cannot be reached; the call did not run.", members)
    return Problem(known, _DETAILS.get(known) or str(error), members)


# What a store or an upstream says about itself may name hosts: callers are told no more than this.
_DETAILS: Mapping[str, str] = {
    "budget_store_unavailable": "The budget store cannot be used; nothing was spent.",
    "store_not_ready": _NOT_READY,
    "upstream_broken": "The upstream's answer broke off; the call may have run.",
    "upstream_timeout": "The upstream did not answer in time; the call may have run.",
}
