"""Heads: what crosses the gateway in both directions, and what does not."""

import pytest
from msgspec import structs

from gateway.domain.key import read_key
from gateway.domain.reservation import Held
from gateway.proxy.answer_head import read_answer_head
from gateway.proxy.head import (
    HEAD_BYTES_MAX,
    IDEMPOTENCY_KEY_MAX,
    Header,
    budget_lines,
    cost_lines,
    headers_in,
    read_request_head,
)

_KEY = b"bgk_acme_k1_secret"
_HELD = Held(0, "total", "agent.researcher.day", 1_500_000, 1_795_392_000_000, ("org.month",))


@pytest.mark.parametrize(
    ("headers", "key", "forwarded"),
    [
        ([(b"authorization", b"Bearer " + _KEY)], _KEY, []),
        ([(b"authorization", b"bearer  " + _KEY)], _KEY, []),
        ([(b"x-api-key", _KEY)], _KEY, []),
        ([(b"budget-key", _KEY)], _KEY, []),
        # Budget-Key is ours, so every other credential is for the upstream.
        (
            [(b"authorization", b"Bearer sk-1"), (b"budget-key", _KEY), (b"x-api-key", b"sk-2")],
            _KEY,
            [(b"authorization", b"Bearer sk-1"), (b"x-api-key", b"sk-2")],
        ),
        # A key of ours in one header leaves the upstream's credential in the other.
        (
            [(b"authorization", b"Bearer sk-1"), (b"x-api-key", _KEY)],
            _KEY,
            [(b"authorization", b"Bearer sk-1")],
        ),
        # Both are ours: neither reaches the upstream.
        ([(b"x-api-key", _KEY), (b"authorization", b"Bearer " + _KEY)], _KEY, []),
        ([(b"authorization", b"Basic abc")], b"", [(b"authorization", b"Basic abc")]),
        ([(b"authorization", b"Bearer sk-1")], b"", [(b"authorization", b"Bearer sk-1")]),
        ([], b"", []),
    ],
)
def test_credential_of_ours_is_taken_out(
    headers: list[Header], key: bytes, forwarded: list[Header]
) -> None:
    """The caller's key of this gateway is found and never forwarded; other credentials are."""
    head = read_request_head(headers)

    assert (head.key, head.forwarded) == (read_key(key.decode()), forwarded)


def test_second_budget_key_is_not_forwarded() -> None:
    """Of two Budget-Key headers the first counts and none is forwarded."""
    head = read_request_head([(b"budget-key", _KEY), (b"budget-key", b"bgk_other_k1_x")])

    assert (head.key, head.forwarded) == (read_key(_KEY.decode()), [])


def test_forged_costs_are_removed() -> None:
    """No Budget-* header and no cost header of LiteLLM reaches the upstream."""
    headers = [
        (b"budget-cost", b"0"),
        (b"budget-anything", b"1"),
        (b"budget-tags", b"team=x"),
        (b"budget-max-cost", b"5"),
        (b"x-litellm-response-cost", b"0"),
        (b"x-litellm-response-cost-input", b"0"),
        (b"x-litellm-model-id", b"7"),
    ]

    head = read_request_head(headers)

    assert head.forwarded == [(b"x-litellm-model-id", b"7")]
    assert (head.tags, head.max_cost_cents) == ("team=x", "5")


def test_values_order_and_duplicates_pass() -> None:
    """What is not ours is forwarded byte by byte, in order, duplicates included."""
    headers = [(b"x-a", b"1"), (b"cookie", b"\xff"), (b"x-a", b"2"), (b"content-type", b"x/y")]

    assert read_request_head(headers).forwarded == headers


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ([(b"upgrade", b"WebSocket")], "not_supported"),
        ([(b"upgrade", b"h2c")], None),
        ([(b"transfer-encoding", b"gzip, chunked")], "not_supported"),
        ([(b"transfer-encoding", b"chunked")], None),
        ([(b"x", b"y" * HEAD_BYTES_MAX)], "headers_too_large"),
        ([(b"x", b"y" * 100)], None),
        ([(b"idempotency-key", b"k" * (IDEMPOTENCY_KEY_MAX + 1))], "bad_request"),
        ([(b"idempotency-key", b"k" * IDEMPOTENCY_KEY_MAX)], None),
        ([(b"x", b"y\nz: 1")], "bad_request"),
        ([(b"x", b"y\rz: 1")], "bad_request"),
        ([(b"x", b"y\0")], "bad_request"),
    ],
)
def test_head_that_cannot_be_served_says_why(headers: list[Header], error: str | None) -> None:
    """What the gateway does not do, and what would not stay one request, is named."""
    head = read_request_head(headers)

    assert (head.unfit.error if head.unfit else None) == error


def test_lines_are_what_goes_over_the_wire() -> None:
    """Forwarded headers as lines, with and without Accept-Encoding."""
    head = read_request_head([(b"a", b"1"), (b"accept-encoding", b"gzip"), (b"b", b"2")])

    assert head.lines == b"a: 1\r\naccept-encoding: gzip\r\nb: 2\r\n"
    assert head.uncoded_lines == b"a: 1\r\nb: 2\r\n"


def test_headers_of_one_connection_stay_behind() -> None:
    """Framing, hop-by-hop headers and those that Connection names are not forwarded."""
    headers = [
        (b"host", b"gateway"),
        (b"connection", b"keep-alive, X-Hop"),
        (b"x-hop", b"1"),
        (b"te", b"trailers"),
        (b"transfer-encoding", b"chunked"),
        (b"content-length", b"3"),
        (b"expect", b"100-continue"),
        (b"proxy-authorization", b"Basic x"),
        (b"x-own", b"1"),
    ]

    assert read_request_head(headers).forwarded == [(b"x-own", b"1")]


def test_answer_loses_hops_and_budget_headers() -> None:
    """Hop-by-hop headers, those that Connection names and the upstream's Budget-* stay behind."""
    headers = [
        (b"connection", b"keep-alive, X-Hop"),
        (b"keep-alive", b"timeout=5"),
        (b"x-hop", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"trailer", b"x"),
        (b"budget-cost", b"3"),
        (b"budget-request-id", b"forged"),
        (b"set-cookie", b"a"),
        (b"set-cookie", b"b"),
        (b"x-request-id", b"theirs"),
        (b"content-length", b"4"),
    ]

    assert read_answer_head(200, headers).headers == headers[7:]


@pytest.mark.parametrize("status", [204, 304])
def test_answer_without_body_has_no_length(status: int) -> None:
    """A length on an answer that cannot have a body is dropped."""
    headers = [(b"content-length", b"4"), (b"etag", b"x")]

    assert read_answer_head(status, headers).headers == [(b"etag", b"x")]


def test_budget_headers_of_a_hold() -> None:
    """An admitted answer names reservation, budget, what is left, the reset and warnings."""
    lines = budget_lines("01REQ", "acme", _HELD, visible=True)

    assert headers_in(lines) == [
        (b"budget-request-id", b"01REQ"),
        (b"budget-source", b"upstream"),
        (b"budget-id", b"acme:agent.researcher.day"),
        (b"budget-remaining", b"1.5"),
        (b"budget-reset", b"2026-11-23T00:00:00Z"),
        (b"budget-warning", b"acme:org.month"),
    ]


def test_budget_headers_hide_amounts() -> None:
    """What is left is not told where the caller may not see it."""
    held = structs.replace(_HELD, budget="org.total", resets_ms=0)

    lines = budget_lines("01REQ", "acme", held, visible=False)

    assert b"budget-remaining" not in lines
    assert b"budget-reset" not in lines


def test_server_timing_adds_up() -> None:
    """The three parts are milliseconds and sum to the whole."""
    assert cost_lines(None, 0.010, 0.002, 0.007) == (
        b"server-timing: gw;dur=1.000, redis;dur=2.000, upstream;dur=7.000\r\n"
    )
