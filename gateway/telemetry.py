"""What a process shows of itself: metrics and log lines, declared once, and the ops port.

Each process has its own registry, so that tests and processes never share a count. Metrics of
the hot path cost about half a microsecond each; nothing there writes a log line.
"""

import logging
import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Literal, TextIO, cast

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

Readiness = Callable[[], str]
LogLevel = Literal["debug", "info", "warning", "error"]

# Default buckets begin at 5 ms, which is above everything that is normal here.
_RESERVE_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
# 600 s is the read timeout of the official SDKs.
_UPSTREAM_BUCKETS_S = (0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0)
_SECRETS = frozenset(
    ("authorization", "x-api-key", "budget-key", "cookie", "stripe-signature", "payment-signature")
)


def new_registry() -> CollectorRegistry:
    """Return a registry that already has what every process shows: memory, CPU, version."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


class Durations(Collector):
    """A histogram for one event loop, which costs a fifth of one that many threads may share.

    ``observe`` takes a duration and only keeps it: who observes has to ``count`` now and then.
    """

    def __init__(self, name: str, says: str, bounds_s: Sequence[float]) -> None:
        self._name = name
        self._says = says
        self._bounds_s = bounds_s
        # How many were up to each bound, and up to any.
        self._totals = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0
        self._uncounted_s: list[float] = []
        self.observe: Callable[[float], None] = self._uncounted_s.append

    def count(self) -> None:
        """Count what was observed. To sort many takes less than to find the bucket of each."""
        self._uncounted_s.sort()
        for place, bound_s in enumerate((*self._bounds_s, float("inf"))):
            self._totals[place] += bisect_right(self._uncounted_s, bound_s)
        self._sum_s += sum(self._uncounted_s)
        self._uncounted_s.clear()

    def collect(self) -> Iterator[Metric]:
        """Yield what Prometheus reads."""
        self.count()
        bounds = [*map(floatToGoString, self._bounds_s), "+Inf"]
        buckets = [(says, float(total)) for says, total in zip(bounds, self._totals, strict=True)]
        yield HistogramMetricFamily(self._name, self._says, buckets, self._sum_s)


class Tally(Collector):
    """A counter by one label for one event loop, at a quarter of what a locked one costs.

    ``counts`` are its numbers by the values of the label.
    """

    def __init__(self, name: str, says: str, label: str) -> None:
        self._name = name
        self._says = says
        self._label = label
        self.counts: defaultdict[str, int] = defaultdict(int)

    def count(self, value: str) -> None:
        """Count one more of a value of the label."""
        self.counts[value] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield what Prometheus reads."""
        family = CounterMetricFamily(self._name, self._says, labels=[self._label])
        for value, count in self.counts.items():
            family.add_metric([value], count)
        yield family


class ProxyMetrics:
    """What the data plane counts. The README of ``proxy`` says what each one tells."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def name(text: str) -> str:
            return f"budget_gateway_{text}"

        self.registry = registry
        self.calls = Tally(name("calls"), "Calls by their end: forwarded, or the error.", "end")
        self.reserve_seconds = Durations(
            name("reserve_seconds"),
            "Time from asking Redis for a reservation to its answer.",
            _RESERVE_BUCKETS_S,
        )
        self.upstream_seconds = Durations(
            name("upstream_seconds"),
            "Time from sending a call to the head of its answer.",
            _UPSTREAM_BUCKETS_S,
        )
        self.settles = Tally(name("settles"), "Ends of reservations by the script's word.", "word")
        for metric in (self.calls, self.settles, self.reserve_seconds, self.upstream_seconds):
            registry.register(metric)
        self.overages = Counter(
            name("overages"), "Settles that cost more than they held.", registry=registry
        )
        self.ignored_costs = Counter(
            name("ignored_costs"),
            "Costs an upstream reported that were no cost.",
            registry=registry,
        )
        self.spooled = Counter(
            name("spooled"), "Ends written to disk because Redis was away.", registry=registry
        )
        self.faults = Counter(
            name("faults"), "Errors nobody expected; each has a log line.", registry=registry
        )
        self.redone = Counter(
            name("redone"),
            "What a Redis that was started again had forgotten: holds and ends told once more.",
            ["kind"],
            registry=registry,
        )
        self._registry_gauges(registry, name)

    def count_durations(self) -> None:
        """Count what has come since the last time."""
        self.reserve_seconds.count()
        self.upstream_seconds.count()

    def _registry_gauges(self, registry: CollectorRegistry, name: Callable[[str], str]) -> None:
        self.open_calls = Gauge(name("open_calls"), "Calls that are running.", registry=registry)
        self.spool_entries = Gauge(
            name("spool_entries"), "Ends on disk that wait for Redis.", registry=registry
        )
        self.store_ready = Gauge(
            name("store_ready"), "1 while the budgets can be used.", registry=registry
        )
        self.clock_skew_seconds = Gauge(
            name("clock_skew_seconds"), "How far this clock is ahead of Redis's.", registry=registry
        )


def configure_logs(level: LogLevel) -> None:
    """Write JSON lines to standard output, from this level up; secrets are never written."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.processors.format_exc_info,
            _redacted,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Output(sys.stdout))),
        cache_logger_on_first_use=False,
    )
    # Libraries that use the standard logging (uvicorn among them) say only what went wrong.
    logging.basicConfig(level=logging.ERROR, handlers=[_ToStructlog()], force=True)


class _Output:
    """Where log lines go. One that is not taken, as by a full disk or a broken pipe, is lost.

    What it tells of goes on: many lines stand between an error and its repair.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        """Write a line, or lose it."""
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        """Let go of what was written."""
        with suppress(OSError):
            self._file.flush()


class _ToStructlog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        fields = {"logger": record.name, "exc_info": record.exc_info}
        structlog.get_logger().error(
            record.getMessage(), **{name: value for name, value in fields.items() if value}
        )


def _redacted(_logger: object, _method: str, fields: Any) -> Any:
    for field in fields:
        if field.lower().replace("_", "-") in _SECRETS:
            fields[field] = "redacted"
    return fields


def probe_routes(trouble: Readiness) -> list[Route]:
    """Return ``/livez`` and ``/readyz``; ``trouble`` is why the process is not ready, or empty.

    ``/livez`` says only that the event loop turns: Redis being away is no reason to restart.
    """

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        sentence = trouble()
        return PlainTextResponse(f"{sentence or 'ok'}\n", status_code=503 if sentence else 200)

    return [Route("/livez", livez), Route("/readyz", readyz)]


def ops_app(registry: CollectorRegistry, trouble: Readiness) -> Starlette:
    """Return the app of the ops port."""

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[*probe_routes(trouble), Route("/metrics", metrics)])
