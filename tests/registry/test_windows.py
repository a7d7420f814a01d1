"""Windows of an org: which run, and which Redis may still keep, without asking for its keys.

W1 a window runs until its stored end; then the next one starts where it ended
W2 every window whose counters may be there is named, whatever the org's zone, and no old ones
"""

from zoneinfo import ZoneInfo

import pytest

from gateway.domain.window import Window, WindowKind, window_at
from gateway.registry.windows import kept_windows, running_windows, stored_windows

BERLIN = ZoneInfo("Europe/Berlin")
DAY_MS = 86_400_000
# 2026-11-22T12:00:00Z
NOON_MS = 1_795_348_800_000
META = {
    "schema": "1",
    "day.id": "2026-11-22",
    "day.start": str(NOON_MS - 1000),
    "day.end": str(NOON_MS),
}


def test_window_runs_until_its_end() -> None:
    """W1: in its last millisecond it runs, then it does not; total runs as long as the org."""
    day = Window("day", "2026-11-22", NOON_MS - 1000, NOON_MS)
    total = Window("total", "", 0, 0)

    assert stored_windows(META, ("day", "month", "total"), NOON_MS - 1) == (day, total)
    assert stored_windows(META, ("day", "month", "total"), NOON_MS) == (total,)
    assert stored_windows({}, ("day", "total"), NOON_MS) == ()


def test_next_window_starts_where_the_last_one_ended() -> None:
    """W1: a zone change ended the day at noon, so the next one has half a day, until midnight."""
    (opening,) = running_windows(META, ("day",), BERLIN, NOON_MS)

    assert opening == Window("day", "2026-11-22", NOON_MS, NOON_MS + 11 * DAY_MS // 24)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize(
    ("kind", "kept_days"), [("hour", 2), ("day", 2), ("week", 40), ("month", 40)]
)
def test_every_kept_window_is_named(zone: str, kind: WindowKind, kept_days: int) -> None:
    """W2: from the one that runs back to the last one whose counters are kept."""
    kept = kept_windows((kind,), NOON_MS)

    window = window_at(kind, NOON_MS, ZoneInfo(zone))
    while window.end_ms + kept_days * DAY_MS > NOON_MS:
        assert f"{kind}:{window.id}" in kept
        window = window_at(kind, window.start_ms - 1, ZoneInfo(zone))


def test_old_windows_are_not_named() -> None:
    """W2: a look at an org reads some hashes, not its history."""
    kept = kept_windows(("total", "month", "week", "day", "hour"), NOON_MS)

    assert kept[0] == "total"
    assert [window for window in kept if window.startswith("day:")] == [
        f"day:2026-11-{day}" for day in (23, 22, 21, 20, 19)
    ]
    assert len(kept) < 120
