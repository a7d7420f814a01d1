"""Proposals: the windows that a gateway offers to the scripts, remembered while they run."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

from gateway.budgets.keys import spend_key
from gateway.domain.window import Window, WindowKind, window_at

DEFAULT_ZONE = "UTC"
# The order of KEYS: the scripts deny by the longest window first and read it from the end.
_SHORTEST_FIRST: tuple[WindowKind, ...] = ("hour", "day", "week", "month", "total")
# An org costs about 1 KB here; a deployment with more of them proposes some windows anew.
_ORGS_MAX = 50_000


class Proposal(Struct, frozen=True, eq=False):
    """The running windows of an org, ready to be sent.

    A proposal is itself and equals no other: frames are found by the one they were made of.

    ``packed`` is the list that records carry, ``bounds`` the same windows with their instants,
    ``keys`` their counters and ``kinds`` their kinds in the same order.
    """

    zone: str
    windows: tuple[Window, ...]
    keys: tuple[str, ...]
    kinds: tuple[WindowKind, ...]
    packed: str
    bounds: str
    ends_ms: int


class Proposals:
    """The last proposal of each org.

    An org that is met for the first time is taken to keep UTC; the script answers ``WINDOW`` with
    the zone and the running windows where that is wrong, and ``learn`` remembers them.
    """

    def __init__(self, kinds: Sequence[WindowKind]) -> None:
        self._kinds = tuple(kind for kind in _SHORTEST_FIRST if kind in kinds)
        self._by_org: dict[str, Proposal] = {}

    def current(self, org: str, now_ms: int) -> Proposal:
        """Return the windows to propose at an instant."""
        known = self._by_org.get(org)
        if known is not None and now_ms < known.ends_ms:
            return known
        stored = {window.kind: window for window in known.windows} if known else {}
        return self._remember(org, known.zone if known else DEFAULT_ZONE, stored, now_ms)

    def learn(self, org: str, zone: str, stored: Sequence[Window], now_ms: int) -> Proposal | None:
        """Return a proposal made of what the script answered; None where the zone is not one."""
        try:
            ZoneInfo(zone)
        # A name that is a folder of the zone database, or not a relative path, is no zone either.
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return None
        return self._remember(org, zone, {window.kind: window for window in stored}, now_ms)

    def _remember(
        self, org: str, zone: str, stored: dict[WindowKind, Window], now_ms: int
    ) -> Proposal:
        windows = tuple(_next(kind, stored.get(kind), zone, now_ms) for kind in self._kinds)
        proposal = Proposal(
            zone,
            windows,
            tuple(spend_key(org, window) for window in windows),
            self._kinds,
            ",".join(packed_window(window) for window in windows),
            ",".join(window_bounds(window) for window in windows if window.end_ms),
            min((window.end_ms for window in windows if window.end_ms), default=2**53),
        )
        if len(self._by_org) >= _ORGS_MAX:
            self._by_org.clear()
        self._by_org[org] = proposal
        return proposal


def packed_window(window: Window) -> str:
    """Return a window as records and the journal name it: ``day:2026-11-22`` or ``total``."""
    return f"{window.kind}:{window.id}" if window.id else window.kind


def window_bounds(window: Window) -> str:
    """Return a window with its instants, as the scripts take a proposal."""
    return f"{window.kind}|{window.id}|{window.start_ms}|{window.end_ms}"


def _next(kind: WindowKind, stored: Window | None, zone: str, now_ms: int) -> Window:
    if stored is not None and now_ms < stored.end_ms:
        return stored
    ended_ms = stored.end_ms if stored is not None and stored.end_ms else None
    return window_at(kind, now_ms, ZoneInfo(zone), ended_ms)
