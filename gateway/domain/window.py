"""Windows: the intervals that a limit applies to, in the org's time zone."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

WindowKind = Literal["hour", "day", "week", "month", "total"]

HOUR_MS = 3_600_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Window:
    """One instance of a window kind: [start_ms, end_ms) in epoch milliseconds.

    ``total`` has no bounds: its id is empty and both instants are 0.
    """

    kind: WindowKind
    id: str
    start_ms: int
    end_ms: int


def window_at(kind: WindowKind, now_ms: int, zone: ZoneInfo, ended_ms: int | None = None) -> Window:
    """Return the window of a kind that contains an instant, as a gateway proposes it.

    ``ended_ms`` is the end of the last window of this kind, at most ``now_ms``. Where the zone's
    own boundary lies before it (the zone was changed), the window starts there instead, so that
    no instant belongs to two windows.
    """
    if kind == "total":
        return Window("total", "", 0, 0)
    start_ms, end_ms = _hour(now_ms) if kind == "hour" else _calendar(kind, now_ms, zone)
    if ended_ms is not None:
        start_ms = max(start_ms, ended_ms)
    return Window(kind, _name(kind, start_ms, end_ms, zone), start_ms, end_ms)


def window_named(kind: WindowKind, window_id: str, zone: ZoneInfo) -> Window | None:
    """Return the window of a kind that has this name in a zone, or None where none has it."""
    if kind == "total":
        return Window("total", "", 0, 0) if window_id == "" else None
    try:
        # Noon of a day in the middle: no zone sets its clocks then.
        if kind == "hour":
            inside = datetime.strptime(window_id, "%Y-%m-%dT%HZ").replace(tzinfo=UTC)
        elif kind == "week":
            inside = datetime.strptime(f"{window_id}-4 12", "%G-W%V-%u %H").replace(tzinfo=zone)
        else:
            day = f"{window_id}-15" if kind == "month" else window_id
            inside = datetime.strptime(f"{day} 12", "%Y-%m-%d %H").replace(tzinfo=zone)
    except ValueError:
        return None
    return window_at(kind, (inside - _EPOCH) // timedelta(milliseconds=1), zone)


def _hour(now_ms: int) -> tuple[int, int]:
    # Hours are those of UTC in every zone: they never repeat or vanish on a DST day.
    start_ms = now_ms - now_ms % HOUR_MS
    return start_ms, start_ms + HOUR_MS


def _calendar(kind: WindowKind, now_ms: int, zone: ZoneInfo) -> tuple[int, int]:
    # A boundary is the first instant of a local date. Where the clock is set back across
    # midnight (Santiago), dates repeat for an hour; they stay in the window of the first pass,
    # so compare instants, not only local dates.
    first = datetime.fromtimestamp(now_ms // 1000, zone).replace(tzinfo=None)
    first = first.replace(hour=0, minute=0, second=0)
    if kind == "week":
        first -= timedelta(days=first.weekday())
    if kind == "month":
        first = first.replace(day=1)
    following = _following(kind, first)
    if now_ms >= (end_ms := _first_instant_ms(following, zone)):
        return end_ms, _first_instant_ms(_following(kind, following), zone)
    return _first_instant_ms(first, zone), end_ms


def _following(kind: WindowKind, first: datetime) -> datetime:
    if kind == "month":
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=7 if kind == "week" else 1)


def _first_instant_ms(midnight: datetime, zone: ZoneInfo) -> int:
    # A midnight that happens twice counts the first time (fold=0). One that a DST jump skips is
    # read with the offset before the jump, which is exactly the instant of the jump.
    return (midnight.replace(tzinfo=zone, fold=0) - _EPOCH) // timedelta(milliseconds=1)


def _name(kind: WindowKind, start_ms: int, end_ms: int, zone: ZoneInfo) -> str:
    if kind == "hour":
        return f"{_EPOCH + timedelta(milliseconds=start_ms):%Y-%m-%dT%HZ}"
    last = (_EPOCH + timedelta(milliseconds=end_ms - 1)).astimezone(zone)
    if kind == "week":
        year, week, _ = last.isocalendar()
        return f"{year}-W{week:02d}"
    return f"{last:%Y-%m}" if kind == "month" else f"{last:%Y-%m-%d}"
