"""Doubt: a Redis that was started again may have forgotten what it had confirmed.

Each start of a server has its run id. The node marker names the one whose counters were compared
with the ledger (``life``). Under another one nothing is admitted while gateways hold again what
they had held, and a worker compares and repairs; ``checking`` changes while it does. So it is
after a rebuild, which leaves ``life`` empty. Where nobody checks, the gate opens after a moment,
because a deployment whose worker is away must come back too. Where a loss is proven (``lost`` names
the run id) only a worker opens it.
"""

from collections.abc import Mapping

# All gateways have connected again by then: they try at least once a second.
LEARN_S = 2.0
_CHECKED = "Redis was started again; its counters are compared with the ledger first."
_LOST = (
    "Redis has lost what it had confirmed; a worker compares its counters with the ledger and "
    "repairs them first."
)


class Doubt:
    """What one connection thinks of the server at its other end.

    A server that does not tell its run id, and a marker without ``life``, are believed.
    """

    def __init__(self, run_id: bytes) -> None:
        self.run_id = run_id
        self._quiet_since_s = 0.0
        self._sign: bytes | None = None
        self._epoch: bytes | None = None
        self._is_over = False

    def look(self, marker: Mapping[bytes, bytes], now_s: float) -> str:
        """Return why nothing may be admitted under this marker, or nothing."""
        if not self.run_id:
            return ""
        if marker.get(b"lost") == self.run_id:
            return _LOST
        if marker.get(b"epoch") != self._epoch:
            # A rebuild has made it from the ledger, which knows no holds.
            self._epoch, self._is_over, self._quiet_since_s = marker.get(b"epoch"), False, now_s
        if marker.get(b"life", self.run_id) == self.run_id:
            self._is_over = True
        if self._is_over:
            return ""
        if (sign := marker.get(b"checking")) != self._sign:
            self._sign, self._quiet_since_s = sign, now_s
        self._is_over = now_s - self._quiet_since_s >= LEARN_S
        return "" if self._is_over else _CHECKED
