"""Counters that go on after a move west are kept by the end of the window that goes on."""

from gateway.domain.window import HOUR_MS
from tests.lua.store import Store


async def test_counters_are_kept_48_hours_after_the_new_end(store: Store) -> None:
    """The key was created for the first end; the second is 11 hours later."""
    await store.held(1)
    fields = {"status": "active", "org.month.limit_cents": "1000", "timezone": "Pacific/Niue"}
    await store.limits(fields)
    await store.at("2037-11-23T00:00:01Z")

    _, held = await store.held(1)

    assert held.windows.startswith("day:2037-11-22,")
    left_ms = await store.client.pttl("bg:{acme}:spend:day:2037-11-22")
    seconds, _ = await store.client.time()
    end_ms = int(await store.client.hget("bg:{acme}:meta", "day.end"))
    assert seconds * 1000 + left_ms >= end_ms + 48 * HOUR_MS - 5000
