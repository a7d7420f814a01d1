"""A credit meets the window that a move west opens once more under its name."""

from gateway.budgets.changes import Credit
from gateway.domain.reservation import Denied, Held
from tests.lua.store import ORG, Store, cents


async def test_credit_opens_the_name_that_goes_on(store: Store) -> None:
    """A spent day goes on after the move; its reset is taken although every call is denied."""
    fields = {"status": "active", "org.day.limit_cents": "10"}
    await store.limits(fields)
    ask, held = await store.held(cents(10))
    await store.settle(ask, held, cents(10))
    await store.limits({**fields, "timezone": "America/Los_Angeles"})
    await store.at("2037-11-23T00:00:01Z")
    assert isinstance(await store.reserve(cents(1)), Denied)

    credit = Credit(store.id(), ORG, "org", "day", "2037-11-22", cents(10))

    assert await store.budgets.credit(credit) == "OK"
    assert isinstance(await store.reserve(cents(1)), Held)
