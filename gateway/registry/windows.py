"""Windows: which ones run for an org now, and which ones Redis may still keep counters of."""

from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

from gateway.budgets.proposals import packed_window
from gateway.domain.window import Window, WindowKind, window_at
from gateway.errors import StoreError

_DAY_MS = 86_400_000
# How long the scripts keep the counters of a window after its end (lua/include/retention.lua).
_KEPT_MS: dict[WindowKind, int] = {
    "hour": 2 * _DAY_MS,
    "day": 2 * _DAY_MS,
    "week": 40 * _DAY_MS,
    "month": 40 * _DAY_MS,
}
# Windows are named in the org's zone, at most 14 hours from UTC.
_ZONES_MS = _DAY_MS


def stored_windows(
    meta: Mapping[str, str], kinds: Sequence[WindowKind], now_ms: int
) -> tuple[Window, ...]:
    """Return the windows that an org's meta says are running; ``total`` runs once an org is known.

    A kind whose window has ended, or that was never opened, has none.

    Raises:
        StoreError: somebody has written bounds that are none.
    """
    found = []
    for kind in kinds:
        if kind == "total" and "schema" in meta:
            found.append(Window("total", "", 0, 0))
        elif now_ms < (end_ms := _instant(meta, f"{kind}.end")):
            start_ms = _instant(meta, f"{kind}.start")
            found.append(Window(kind, meta.get(f"{kind}.id", ""), start_ms, end_ms))
    return tuple(found)


def running_windows(
    meta: Mapping[str, str], kinds: Sequence[WindowKind], zone: ZoneInfo, now_ms: int
) -> tuple[Window, ...]:
    """Return the running window of each kind, or the one that the next call would open."""
    stored = {window.kind: window for window in stored_windows(meta, kinds, now_ms)}
    ended = {kind: _instant(meta, f"{kind}.end") for kind in kinds if f"{kind}.end" in meta}
    return tuple(
        stored.get(kind) or window_at(kind, now_ms, zone, ended.get(kind)) for kind in kinds
    )


def _instant(meta: Mapping[str, str], name: str) -> int:
    text = meta.get(name, "0")
    if not text.isdecimal():
        raise StoreError(f"{name} in an org's meta is {text!r}; expected epoch milliseconds.")
    return int(text)


def kept_until(kind: WindowKind, end_ms: int) -> int:
    """Return until when the scripts keep the counters of a window; 0 is for ever."""
    return 0 if kind == "total" else end_ms + _KEPT_MS[kind]


def kept_windows(kinds: Sequence[WindowKind], now_ms: int) -> list[str]:
    """Return every window, packed, whose counters Redis may still have, whatever the org's zone.

    Counted out by the calendar, because a scan of the keys would take as long as Redis is full.
    """
    found = []
    for kind in kinds:
        if kind == "total":
            found.append("total")
            continue
        window = window_at(kind, now_ms + _ZONES_MS, ZoneInfo("UTC"))
        while window.end_ms + _KEPT_MS[kind] + _ZONES_MS > now_ms:
            found.append(packed_window(window))
            window = window_at(kind, window.start_ms - 1, ZoneInfo("UTC"))
    return found
