"""The load: callers that each send the next request when the last answer is whole.

    python -m bench.load 127.0.0.1 8080 --key bgk_acme_k1_secret --callers 64 --seconds 5

Prints one line of JSON. An answer of another status or length than the fixed one ends it at once
with exit code 1: a gateway that is fast because it is wrong must not get a number.

A closed loop: it finds out how much the gateway can do, not how long people wait at a given rate.
"""

import argparse
import asyncio
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import httptools
import orjson
import uvloop

from bench.answers import EXCHANGES

PATH = "/agents/{agent}/v1/chat/completions"
_PERCENTILES = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p999_ms": 99.9, "max_ms": 100.0}
# Nothing that is measured takes this long; an answer that never comes must still end the run.
_STUCK_S = 30.0


class Plan(NamedTuple):
    """What to send: ``warmup`` answers that are not measured, then those that are.

    They end after ``requests`` answers or ``seconds``, whichever comes first; 0 is no bound.
    """

    host: str
    port: int
    key: str
    kind: str = "json"
    agents: int = 10
    callers: int = 64
    warmup: int = 1000
    requests: int = 0
    seconds: float = 5.0


class WrongAnswer(Exception):
    """An answer that is not the fixed one, or none."""


class Measured(NamedTuple):
    """What one run measured, as it is printed; ``answered`` counts the warm-up too."""

    answered: int
    measured: int
    seconds: float
    requests_per_s: float
    first_p50_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    statuses: dict[str, int]


class Load:
    """Everything that the callers share: when to stop, and what they saw."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.expected_bytes = EXCHANGES[plan.kind].answer_bytes
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.statuses: Counter[int] = Counter()
        self.whole_ns: list[int] = []
        self.first_ns: list[int] = []
        self.began_ns = self.ended_ns = 0
        self._until_ns = 0
        self._answered = 0
        self._busy = plan.callers
        self._requests = itertools.cycle(_requests(plan))

    def next_request(self) -> bytes:
        """Return the next request, of each agent in its turn."""
        return next(self._requests)

    def answered(self, began_ns: int, first_ns: int, status: int) -> bool:
        """Count a right answer; return whether its caller goes on."""
        now_ns = time.perf_counter_ns()
        self._answered += 1
        self.statuses[status] += 1
        if self.ended_ns:
            return False
        if self.began_ns:
            self.whole_ns.append(now_ns - began_ns)
            self.first_ns.append(first_ns - began_ns)
            if now_ns >= self._until_ns or len(self.whole_ns) == self.plan.requests:
                self.ended_ns = now_ns
                return False
        elif self._answered >= self.plan.warmup:
            self.began_ns = now_ns
            self._until_ns = now_ns + int((self.plan.seconds or 1e9) * 1e9)
        return True

    def left(self) -> None:
        """Say that a caller has had its last answer."""
        self._busy -= 1
        if not self._busy and not self.done.done():
            self.done.set_result(None)

    def fail(self, reason: str) -> None:
        """End the run: nothing that was measured counts."""
        if not self.done.done():
            self.done.set_exception(WrongAnswer(reason))

    def result(self) -> Measured:
        """Return the figures of a run that has ended."""
        seconds = (self.ended_ns - self.began_ns) / 1e9
        whole = sorted(self.whole_ns)
        return Measured(
            answered=self._answered,
            measured=len(whole),
            seconds=round(seconds, 3),
            requests_per_s=round(len(whole) / seconds, 1),
            first_p50_ms=percentile_ms(sorted(self.first_ns), 50.0),
            statuses={str(status): count for status, count in self.statuses.items()},
            **{name: percentile_ms(whole, percent) for name, percent in _PERCENTILES.items()},
        )


class Caller(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._began_ns = self._first_ns = self._bytes = 0
        self._last = b""
        self._leaving = False
        self._parser = httptools.HttpResponseParser(self)
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Read on; the callbacks do the rest."""
        if not self._first_ns:
            self._first_ns = time.perf_counter_ns()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._load.fail(f"An answer is not HTTP: {error}: {data[:200]!r}.")

    def on_body(self, chunk: bytes) -> None:
        """Count the body."""
        self._bytes += len(chunk)
        self._last = chunk

    def on_message_complete(self) -> None:
        """Check the answer, count it and send the next request."""
        status = self._parser.get_status_code()
        if status != 200 or self._bytes != self._load.expected_bytes:
            self._load.fail(
                f"Answer {status} with {self._bytes} bytes, expected 200 with "
                f"{self._load.expected_bytes}; it ends with {self._last[-300:]!r}."
            )
        elif self._load.answered(self._began_ns, self._first_ns, status):
            self._send()
        else:
            self._leaving = True
            self._transport.close()
            self._load.left()

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the run where the other side has closed."""
        if not self._leaving:
            self._load.fail(f"A connection was closed before its answer: {error}.")
        self.closed.set()

    def _send(self) -> None:
        request = self._load.next_request()
        self._bytes = self._first_ns = 0
        self._began_ns = time.perf_counter_ns()
        self._transport.write(request)


def percentile_ms(sorted_ns: Sequence[int], percent: float) -> float:
    """Return an exact percentile by nearest rank, in milliseconds."""
    rank = -(-len(sorted_ns) * percent // 100)
    return round(sorted_ns[max(0, int(rank) - 1)] / 1e6, 3)


async def run(plan: Plan) -> Measured:
    """Send what is planned and return the figures.

    Raises:
        WrongAnswer: one answer was wrong, broke off or did not come.
    """
    loop, load = asyncio.get_running_loop(), Load(plan)
    callers = [
        await loop.create_connection(lambda: Caller(load), plan.host, plan.port)
        for _ in range(plan.callers)
    ]
    try:
        # A run by count has no length of its own; `make` and CI have their own patience.
        async with asyncio.timeout(plan.seconds + _STUCK_S if plan.seconds else None):
            await load.done
    except TimeoutError as error:
        raise WrongAnswer(f"The run did not end {_STUCK_S:g} s after its time.") from error
    finally:
        for transport, _ in callers:
            transport.abort()
        for _, caller in callers:
            await caller.closed.wait()
    return load.result()


def _requests(plan: Plan) -> Iterator[bytes]:
    body = EXCHANGES[plan.kind].request
    for number in range(plan.agents):
        head = (
            f"POST {PATH.format(agent=f'agent{number}')} HTTP/1.1\r\n"
            f"host: {plan.host}:{plan.port}\r\n"
            f"authorization: Bearer {plan.key}\r\n"
            "accept: application/json\r\nuser-agent: bench\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body


def _plan(arguments: Sequence[str]) -> Plan:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--key", required=True)
    parser.add_argument("--kind", choices=list(EXCHANGES), default="json")
    for name in ("agents", "callers", "warmup", "requests"):
        parser.add_argument(f"--{name}", type=int, default=Plan._field_defaults[name])
    parser.add_argument("--seconds", type=float, default=Plan._field_defaults["seconds"])
    return Plan(**vars(parser.parse_args(arguments)))


def main(arguments: Sequence[str]) -> int:
    """Run one load; return the exit code."""
    try:
        measured = uvloop.run(run(_plan(arguments)))
    except (WrongAnswer, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(orjson.dumps(measured._asdict()).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
