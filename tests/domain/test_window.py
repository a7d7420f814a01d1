"""Exactly one window of a kind contains each instant, in any zone, on any day."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.window import HOUR_MS, Window, WindowKind, window_at

ZONES = [
    "UTC",
    "America/Santiago",
    "Australia/Lord_Howe",
    "America/New_York",
    "Asia/Kolkata",
    "Pacific/Apia",
]
BOUNDED: tuple[WindowKind, ...] = ("hour", "day", "week", "month")


def ms(text: str) -> int:
    """Return the epoch milliseconds of an ISO instant."""
    return int(datetime.fromisoformat(text).timestamp()) * 1000


@pytest.mark.parametrize(
    ("zone", "at", "day", "hours"),
    [
        # Santiago skips midnight in September and repeats 23:00 of the Saturday in April.
        ("America/Santiago", "2026-09-06T12:00:00Z", "2026-09-06", 23),
        ("America/Santiago", "2026-04-04T20:00:00Z", "2026-04-04", 25),
        ("Australia/Lord_Howe", "2026-04-05T00:00:00Z", "2026-04-05", 24.5),
        ("Australia/Lord_Howe", "2026-10-04T00:00:00Z", "2026-10-04", 23.5),
        ("America/New_York", "2026-03-08T12:00:00Z", "2026-03-08", 23),
        ("America/New_York", "2026-11-01T12:00:00Z", "2026-11-01", 25),
        # Havana sets the clock back from 01:00 to 00:00: its midnight happens twice.
        ("America/Havana", "2026-11-01T12:00:00Z", "2026-11-01", 25),
        ("UTC", "2026-11-22T23:59:59Z", "2026-11-22", 24),
    ],
)
def test_day_has_the_hours_of_the_zone(zone: str, at: str, day: str, hours: float) -> None:
    """A day runs from local midnight to local midnight, daylight-saving days included."""
    window = window_at("day", ms(at), ZoneInfo(zone))

    assert window.id == day
    assert window.end_ms - window.start_ms == hours * HOUR_MS


@given(
    st.sampled_from(BOUNDED),
    st.sampled_from(ZONES),
    st.integers(ms("2005-01-01T00:00:00Z"), ms("2035-01-01T00:00:00Z")),
)
def test_windows_tile_time(kind: WindowKind, zone: str, now_ms: int) -> None:
    """A window contains its instant, and its neighbours begin and end where it does."""
    window = window_at(kind, now_ms, ZoneInfo(zone))

    assert window.start_ms <= now_ms < window.end_ms
    assert window_at(kind, window.start_ms, ZoneInfo(zone)) == window
    assert window_at(kind, window.end_ms - 1, ZoneInfo(zone)) == window
    assert window_at(kind, window.end_ms, ZoneInfo(zone)).start_ms == window.end_ms
    assert window_at(kind, window.start_ms - 1, ZoneInfo(zone)).end_ms == window.start_ms


@given(
    st.sampled_from(BOUNDED),
    st.sampled_from(ZONES),
    st.sampled_from(ZONES),
    st.integers(ms("2026-01-01T00:00:00Z") // 1000, ms("2027-01-01T00:00:00Z") // 1000),
)
def test_zone_change_leaves_no_gap_and_no_overlap(
    kind: WindowKind, old: str, new: str, at_s: int
) -> None:
    """The window after a change of zone starts exactly where the old one ended."""
    ended = window_at(kind, at_s * 1000, ZoneInfo(old))

    following = window_at(kind, ended.end_ms, ZoneInfo(new), ended.end_ms)

    assert following.start_ms == ended.end_ms < following.end_ms


@pytest.mark.parametrize(
    ("new", "day", "end"),
    [
        ("Asia/Tokyo", "2026-11-23", "2026-11-23T15:00:00Z"),
        ("Pacific/Honolulu", "2026-11-22", "2026-11-23T10:00:00Z"),
    ],
)
def test_zone_change_names_the_window_by_its_last_instant(new: str, day: str, end: str) -> None:
    """A move east opens the next day; a move west goes on under the day that just ended."""
    ended = window_at("day", ms("2026-11-22T11:00:00Z"), ZoneInfo("Europe/Berlin"))

    following = window_at("day", ended.end_ms, ZoneInfo(new), ended.end_ms)

    assert following == Window("day", day, ended.end_ms, ms(end))


def test_idle_org_gets_the_natural_window() -> None:
    """After days without a call the window starts at its own boundary, not at the old end."""
    window = window_at(
        "day", ms("2026-11-24T12:00:00Z"), ZoneInfo("UTC"), ms("2026-11-20T00:00:00Z")
    )

    assert window.start_ms == ms("2026-11-24T00:00:00Z")


@pytest.mark.parametrize(
    ("kind", "window_id"),
    [("hour", "2027-01-01T02Z"), ("week", "2026-W53"), ("month", "2027-01"), ("total", "")],
)
def test_ids_are_those_of_the_contract(kind: WindowKind, window_id: str) -> None:
    """Hours are named by their UTC start, weeks by ISO year and week, months by the month."""
    assert window_at(kind, ms("2027-01-01T02:30:00Z"), ZoneInfo("UTC")).id == window_id
