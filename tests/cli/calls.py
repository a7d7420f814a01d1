"""Calls of acme as the tests of the commands make them."""

from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.changes import Settlement
from gateway.domain.reservation import Ask, Held, ReserveOutcome
from workers.journal_pump import JournalPump

CENT = 1_000_000
DETAIL = (
    b'{"model":"m1","input_tokens":7,"output_tokens":5,"price_id":"p1","source":"tokens",'
    b'"status":200,"duration_ms":12,"key_id":"k1"}'
)


async def reserve(
    budgets: Bookkeeping, amount_microcents: int, agent: str = "researcher"
) -> ReserveOutcome:
    """Ask for an amount."""
    return await budgets.reserve(Ask(str(ULID()), "acme", agent, amount_microcents))


async def spend(
    budgets: Bookkeeping, cost_microcents: int, agent: str = "researcher", detail: bytes = DETAIL
) -> str:
    """Make one call and return its id."""
    ask = Ask(str(ULID()), "acme", agent, cost_microcents)
    held = await budgets.reserve(ask)
    assert isinstance(held, Held), held
    settlement = Settlement("acme", agent, ask.id, held.windows, cost_microcents, detail)
    assert (await budgets.settle(settlement)).status == "SETTLED"
    return ask.id


async def post_all(pump: JournalPump) -> None:
    """Post whatever is in the journal."""
    while await pump.step():
        pass
