"""The story of a call, where the journal is long: what of it is looked through."""

from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.registry.clients import Clients
from gateway.registry.story import tell_story


async def test_entry_is_found_behind_a_thousand_others(
    clients: Clients, budgets: Bookkeeping
) -> None:
    """Page by page; where it stops before the end, the story says that it is not whole."""
    id = str(ULID())
    async with clients.redis.pipeline(transaction=False) as pipe:
        for number in range(1_000):
            pipe.xadd("bg:journal", {"org": "acme", "id": f"other{number}"})
        pipe.xadd("bg:journal", {"org": "acme", "id": id, "kind": "settle", "epoch": "1"})
        await pipe.execute()

    short = await tell_story(clients, budgets, "acme", id, pages_max=1)
    long = await tell_story(clients, budgets, "acme", id)

    assert (short.is_whole, short.is_known) == (False, False)
    assert (long.is_whole, [entry.fields["id"] for entry in long.journal]) == (True, [id])
