"""Problems: every outcome and error has one status and one word, worded for the caller's SDK."""

from typing import Any, get_args

import orjson
import pytest
from msgspec import structs

from gateway.domain.reservation import Denied, Finished, Refusal, Refused, Replayed
from gateway.errors import (
    BadRequest,
    GatewayError,
    OutcomeUnknown,
    StoreError,
    StoreNotReady,
    StoreUnavailable,
    UpstreamBroken,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.proxy import problem
from gateway.proxy.dialect import Tongue, broken_event, render, rpc_tongue
from gateway.proxy.problem import KINDS, Problem

_CENT = 1_000_000
_DENIED = Denied(
    "DENIED", "agent.researcher.day", 2000 * _CENT, 0, 1_997_500_000, 2 * _CENT, 1_795_392_000_000
)


def _denied(**changes: Any) -> Problem:
    visible = changes.pop("visible", True)
    return problem.of_denied(
        structs.replace(_DENIED, **changes), "acme", 5 * _CENT, visible=visible
    )


def _said(answer: Problem, tongue: Tongue | None = None) -> tuple[dict[str, str], dict[str, Any]]:
    headers, body = render(answer, tongue or Tongue(), "01REQ")
    return {name.decode(): value.decode() for name, value in headers}, orjson.loads(body)


def test_denied_names_budget_and_amounts() -> None:
    """A full budget is 402 with the exact members of the contract and no Retry-After."""
    headers, body = _said(_denied())

    assert _denied().status == 402
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers
    assert headers["content-type"] == "application/problem+json"
    assert headers["budget-source"] == "gateway"
    assert headers["x-request-id"] == headers["request-id"] == "01REQ"
    assert body == {
        "type": "urn:budget-gateway:problem:budget_exceeded",
        "title": "Budget exceeded",
        "status": 402,
        "detail": "The day budget of agent 'researcher' has no room for this call; "
        "it resets at 2026-11-23T00:00:00Z.",
        "error": "budget_exceeded",
        "budget_id": "acme:agent.researcher.day",
        "scope": "agent",
        "window": "day",
        "limit_cents": 2000,
        "credit_cents": 0,
        "current_usage_cents": 1997.5,
        "held_cents": 2,
        "requested_cents": 5,
        "resets_at": "2026-11-23T00:00:00Z",
        "retryable": False,
        "request_id": "01REQ",
    }


def test_amounts_are_exact_in_the_body() -> None:
    """An amount that no double holds as cents is still written digit by digit."""
    _, body = render(_denied(limit_microcents=9_007_199_254_740_991), Tongue(), "")

    assert b'"limit_cents":9007199254.740991' in body


def test_denied_hides_amounts_of_others() -> None:
    """Where the caller may not see amounts, the budget is named and no number of it is."""
    _, body = _said(_denied(visible=False))

    assert body["budget_id"] == "acme:agent.researcher.day"
    assert not body.keys() & {"limit_cents", "current_usage_cents", "held_cents", "credit_cents"}


def test_busy_may_be_tried_again() -> None:
    """A budget that is full of holds is 429 with a short Retry-After."""
    headers, body = _said(_denied(reason="BUSY"))

    assert (body["status"], body["error"], body["retryable"]) == (429, "budget_held", True)
    assert 1 <= int(headers["retry-after"]) <= 60


@pytest.mark.parametrize(
    ("refused", "node_stands", "status", "error"),
    [
        (Refused("BADARG", "id"), True, 500, "internal_error"),
        (Refused("CLOCK"), True, 503, "clock_skew"),
        (Refused("COLD"), True, 401, "unauthenticated"),
        (Refused("COLD"), False, 503, "store_not_ready"),
        (Refused("UNKNOWN_KEY"), True, 401, "unauthenticated"),
        (Refused("UNKNOWN_KEY"), False, 503, "store_not_ready"),
        (Refused("KEY_EXPIRED"), True, 401, "unauthenticated"),
        (Refused("AGENT_NOT_ALLOWED"), False, 503, "store_not_ready"),
        (Refused("AGENT_NOT_ALLOWED"), True, 403, "agent_not_allowed"),
        (Refused("MISMATCH"), True, 500, "internal_error"),
        (Refused("LIMITS_INVALID", "org.day.limit_cents"), True, 503, "limits_invalid"),
        (Refused("FROZEN", "org"), True, 403, "frozen"),
        (Refused("WINDOW"), True, 503, "budget_store_unavailable"),
        (Refused("JOURNAL_FULL"), True, 503, "journal_full"),
        (Refused("PER_CALL", "org", 7), True, 402, "per_call_limit_exceeded"),
        (Refused("CONCURRENCY", "org", 3), True, 429, "concurrency_limited"),
        (Refused("RATE", "org", retry_ms=1500), True, 429, "rate_limited"),
    ],
)
def test_refusal_has_its_status(
    refused: Refused, node_stands: bool, status: int, error: str
) -> None:
    """Each refusal of the scripts becomes the status and word of the contract."""
    answer = problem.of_refused(refused, node_stands=node_stands)

    assert (answer.status, answer.error) == (status, error)


def test_number_of_calls_is_told_to_whom_amounts_are() -> None:
    """``GATEWAY_EXPOSE_AMOUNTS`` hides every number of a scope above the key's."""
    full = Refused("CONCURRENCY", "org", 3)

    told = problem.of_refused(full, node_stands=True, visible=True)
    hidden = problem.of_refused(full, node_stands=True, visible=False)

    assert "3" in told.detail
    assert "3" not in hidden.detail


def test_every_refusal_is_answered() -> None:
    """No refusal word is without an answer."""
    for word in get_args(Refusal):
        assert problem.of_refused(Refused(word), node_stands=True).error in KINDS


def test_rate_waits_at_most_a_minute() -> None:
    """Retry-After of a rate limit is rounded up and never freezes a caller."""
    short, _ = _said(problem.of_refused(Refused("RATE", retry_ms=1500), node_stands=True))
    long, _ = _said(problem.of_refused(Refused("RATE", retry_ms=600_000), node_stands=True))

    assert (short["retry-after"], long["retry-after"]) == ("2", "60")


def test_limits_invalid_names_the_field() -> None:
    """A malformed limit is refused with its field."""
    _, body = _said(problem.of_refused(Refused("LIMITS_INVALID", "status"), node_stands=True))

    assert body["field"] == "status"


@pytest.mark.parametrize(
    ("replayed", "status", "error"),
    [
        (Replayed("01A", "b1", "held", 0), 409, "idempotency_conflict"),
        (Replayed("01A", "b1", "settled", 5), 409, "idempotency_completed"),
        (Replayed("01A", "b1", "expired", 5), 409, "idempotency_completed"),
        (Replayed("01A", "b2", "settled", 5), 422, "idempotency_mismatch"),
    ],
)
def test_idempotency_outcomes(replayed: Replayed, status: int, error: str) -> None:
    """A used idempotency key is a conflict while it runs, completed after, a mismatch if other."""
    answer = problem.of_replayed(replayed, "b1")
    headers, body = _said(answer)

    assert (answer.status, answer.error) == (status, error)
    assert headers.get("retry-after") == ("1" if error == "idempotency_conflict" else None)
    if error == "idempotency_completed":
        assert headers["x-should-retry"] == "false"
        assert (body["reservation_id"], body["state"]) == ("01A", replayed.state)
        assert body["cost_cents"] == 0.000005


def test_finished_reserve_is_a_mistake_of_ours() -> None:
    """A fresh id that has ended already is 500."""
    assert problem.of_finished(Finished("void", 0, 0, 0, 0, "proxy", "a")).status == 500


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (BadRequest("The path is wrong."), 400, "bad_request"),
        (StoreError("NOPERM"), 503, "budget_store_unavailable"),
        (StoreUnavailable("away"), 503, "budget_store_unavailable"),
        (OutcomeUnknown("late"), 503, "budget_store_unavailable"),
        (StoreNotReady("empty"), 503, "store_not_ready"),
        (UpstreamUnreachable("10.0.0.9 refused"), 502, "upstream_unreachable"),
        (UpstreamBroken("reset"), 502, "upstream_broken"),
        (UpstreamTimeout("slow"), 504, "upstream_timeout"),
        (GatewayError("surprise"), 500, "internal_error"),
    ],
)
def test_error_has_its_status(error: GatewayError, status: int, word: str) -> None:
    """Each fault becomes the status and word of the contract, and names no host."""
    answer = problem.of_error(error)

    assert (answer.status, answer.error) == (status, word)
    assert "10.0.0.9" not in answer.detail


def test_upstream_fault_says_what_was_charged() -> None:
    """A call that may have run tells what it has cost and is not to be retried."""
    headers, body = _said(problem.of_error(UpstreamTimeout("slow"), 2 * _CENT))

    assert (body["charged_cents"], headers["x-should-retry"]) == (2, "false")


def test_unauthenticated_offers_a_scheme() -> None:
    """A 401 carries WWW-Authenticate."""
    headers, _ = _said(problem.unauthenticated())

    assert headers["www-authenticate"].startswith("Bearer")


def test_rpc_request_is_answered_as_rpc() -> None:
    """A JSON-RPC request gets a JSON-RPC error with its own id and the problem as data."""
    tongue = rpc_tongue(b'{"jsonrpc": "2.0", "id": "7", "method": "tools/call"}')
    assert tongue is not None
    headers, body = _said(_denied(), tongue)

    assert headers["content-type"] == "application/json"
    assert (body["jsonrpc"], body["id"]) == ("2.0", "7")
    assert body["error"]["code"] == 402
    assert body["error"]["data"]["budget_id"] == "acme:agent.researcher.day"


def test_rpc_batch_has_one_answer() -> None:
    """A batch that is refused as a whole is answered by one error, which has no id of its own."""
    tongue = rpc_tongue(b'[{"jsonrpc": "2.0", "id": 1, "method": "a"}]')
    assert tongue is not None
    _, body = _said(Problem("budget_exceeded", "No."), tongue)

    assert (body["jsonrpc"], body["id"]) == ("2.0", None)
    assert body["error"]["data"]["error"] == "budget_exceeded"


@pytest.mark.parametrize("body", [b"", b"{}", b'["jsonrpc"]', b'{"jsonrpc": ', b"\xff"])
def test_other_bodies_are_no_rpc(body: bytes) -> None:
    """What is not a JSON-RPC request is not answered as one."""
    assert rpc_tongue(body) is None


def test_openai_voice_is_problem_and_error_in_one() -> None:
    """OpenAI's dialect has the members at the top and the error object that the SDK reads."""
    headers, body = _said(_denied(), Tongue("openai"))

    assert headers["content-type"] == "application/problem+json"
    assert body["budget_id"] == "acme:agent.researcher.day"
    assert body["error"] == {
        "type": "budget_exceeded",
        "code": "budget_exceeded",
        "message": body["detail"],
        "param": None,
    }


def test_anthropic_voice_is_a_billing_error() -> None:
    """Anthropic's dialect says billing_error and keeps the members inside it."""
    headers, body = _said(_denied(), Tongue("anthropic"))

    assert headers["content-type"] == "application/json"
    assert (body["type"], body["request_id"]) == ("error", "01REQ")
    assert body["error"]["type"] == "billing_error"
    assert body["error"]["error"] == "budget_exceeded"
    assert body["error"]["limit_cents"] == 2000


def test_broken_event_speaks_the_dialect() -> None:
    """A stream that broke off ends in the event that each SDK raises on."""
    answer = problem.of_error(UpstreamBroken("reset"))

    assert broken_event(answer, Tongue("openai"), "").startswith(b'data: {"type"')
    assert broken_event(answer, Tongue("anthropic"), "").startswith(b"event: error\ndata: ")
