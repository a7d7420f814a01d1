"""A settle that comes after an end warns like any other growth of spent."""

import pytest

from tests.lua.store import ORG, Store, cents


@pytest.mark.parametrize("end", ["expired", "released", "void"])
async def test_settle_after_an_end_warns_once(store: Store, end: str) -> None:
    """LATE and VOIDED cross warn_at as SETTLED does; contract section 3."""
    fields = {"status": "active", "org.month.limit_cents": "10"}
    await store.limits({**fields, "on_expiry": "charge" if end == "expired" else "release"})
    ask, held = await store.held(cents(4), ttl_ms=1000)
    if end == "void":
        await store.budgets.release(ORG, ask.agent, ask.id, held.windows)
    else:
        await store.at(2000)
        assert await store.budgets.expire(ORG, held.windows, [ask.id]) == [end]
    assert await store.journal("alert") == []

    await store.settle(ask, held, cents(9))

    assert ['"alert":"warned"' in entry["detail"] for entry in await store.journal("alert")] == [
        True
    ]
