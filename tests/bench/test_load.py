"""The load ends at the first answer that is not the fixed one, and its percentiles are exact."""

from typing import Any

import pytest

from bench.answers import JSON, SSE
from bench.load import Plan, WrongAnswer, percentile_ms, run
from tests.stub_upstream import StubUpstream, stub_upstream
from tests.upstream_answers import CLOSE, Answering, bytes_answer, raw_answer

RIGHT = bytes_answer(JSON.parts[0])


def plan(upstream: StubUpstream, **changes: Any) -> Plan:
    """Return a short load on a stub."""
    short = Plan(upstream.host, upstream.port, "bgk_acme_k1_secret", callers=3, warmup=5)
    return short._replace(requests=40, seconds=20.0, **changes)


async def test_load_measures_what_was_planned() -> None:
    """The warm-up is counted and not measured; callers end with a whole answer."""
    async with stub_upstream() as upstream:
        upstream.answers(RIGHT)

        measured = await run(plan(upstream))

        assert measured.measured == 40
        assert measured.answered == upstream.executions == sum(measured.statuses.values())
        assert 45 <= measured.answered < 48
        assert measured.p50_ms <= measured.p99_ms <= measured.max_ms
        assert measured.requests_per_s > 0


async def test_load_reads_streams() -> None:
    """The length of a stream is that of its events, whatever the chunks are."""
    stream = b"".join(SSE.parts)
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in (stream[:100], stream[100:])]
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    async with stub_upstream() as upstream:
        upstream.answers(raw_answer(head, *chunks, b"0\r\n\r\n"))

        measured = await run(plan(upstream, kind="sse"))

        assert measured.measured == 40
        assert all(b'"stream":true' in request.body for request in upstream.requests)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (bytes_answer(JSON.parts[0], 201), "Answer 201"),
        (bytes_answer(JSON.parts[0][:-1]), "expected 200 with"),
        (raw_answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", CLOSE), "was closed"),
        (raw_answer(b"SSH-2.0-OpenSSH\r\n"), "is not HTTP"),
    ],
)
async def test_load_ends_at_a_wrong_answer(wrong: Answering, reason: str) -> None:
    """One answer of another status or length, or a broken one, and there are no figures."""
    async with stub_upstream() as upstream:
        upstream.answers(*[RIGHT] * 20, wrong)

        with pytest.raises(WrongAnswer, match=reason):
            await run(plan(upstream))


async def test_load_calls_each_agent_with_the_key() -> None:
    """Requests go to every agent in turn, as a caller of the gateway sends them."""
    async with stub_upstream() as upstream:
        upstream.answers(RIGHT)

        await run(plan(upstream, agents=2, callers=1))

        paths = [request.path for request in upstream.requests[:3]]
        assert paths == [b"/agents/agent%d/v1/chat/completions" % number for number in (0, 1, 0)]
        assert upstream.requests[0].header(b"authorization") == b"Bearer bgk_acme_k1_secret"


@pytest.mark.parametrize(("percent", "expected"), [(50.0, 2.0), (99.0, 4.0), (100.0, 4.0)])
def test_percentile_is_a_measured_value(percent: float, expected: float) -> None:
    """Nearest rank: no value that was never measured, no bucket."""
    assert percentile_ms([1_000_000, 2_000_000, 3_000_000, 4_000_000], percent) == expected
