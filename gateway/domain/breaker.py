"""A circuit breaker: an upstream that keeps failing is not called on every request."""

from typing import Literal

FAILURES_MAX = 5
PROBE_INTERVAL_S = 0.5


class Breaker:
    """The breaker of one upstream. It has no clock: every call is told the time.

    ``now_s`` must come from a monotonic clock. Closed admits every call; ``FAILURES_MAX``
    failures in a row open it. Open admits one probe per ``PROBE_INTERVAL_S``, half-open while it
    is out, and no other call; a success closes it, a failure keeps it open. A probe whose
    outcome is never told counts as lost after the interval, so the breaker cannot stay shut.

    ``failures`` are those in a row. Without any it admits every call, and forgets nothing where
    one succeeds: neither needs to be asked of it.
    """

    __slots__ = ("_probe_at_s", "_probing", "failures")

    def __init__(self) -> None:
        self.failures = 0
        self._probe_at_s = 0.0
        self._probing = False

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        """The state as metrics name it."""
        if self.failures < FAILURES_MAX:
            return "closed"
        return "half-open" if self._probing else "open"

    def admits(self, now_s: float) -> bool:
        """Whether a call may go out now; True while open means that this call is the probe."""
        if self.failures < FAILURES_MAX:
            return True
        if now_s < self._probe_at_s:
            return False
        self._probing = True
        self._probe_at_s = now_s + PROBE_INTERVAL_S
        return True

    def succeed(self) -> None:
        """The upstream answered: close, and forget every failure."""
        self.failures = 0
        self._probing = False

    def fail(self, now_s: float) -> None:
        """The upstream could not be reached or broke; the next probe is an interval from now."""
        self.failures = min(self.failures + 1, FAILURES_MAX)
        self._probing = False
        if self.failures == FAILURES_MAX:
            self._probe_at_s = now_s + PROBE_INTERVAL_S
