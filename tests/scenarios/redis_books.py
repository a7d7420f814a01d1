"""The books of one org on a server, as the engine of a scenario table."""

from msgspec import structs

from gateway.budgets.bookkeeping import CreditWord
from gateway.budgets.changes import Credit, Settlement
from gateway.budgets.keys import org_key
from gateway.domain.budget import Counters
from gateway.domain.reservation import (
    Ask,
    ExtendOutcome,
    Held,
    Released,
    ReserveOutcome,
    Settled,
)
from gateway.domain.window import WindowKind
from tests.lua.store import KEY_DIGEST, ORG, Store


class RedisBooks:
    """The verbs over a store, which remembers the windows of each hold as a gateway does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._windows: dict[str, str] = {}

    async def at(self, now_ms: int) -> None:
        """Move the clock."""
        await self._store.at(now_ms - self._store.now_ms)

    async def limit(self, field: str, value: str | None) -> None:
        """Set a field of the limits, or remove it."""
        key = org_key(ORG, "limits")
        if value is None:
            await self._store.client.hdel(key, field)
        else:
            await self._store.client.hset(key, field, value)

    async def reserve(self, ask: Ask) -> ReserveOutcome:
        """Hold an amount on every budget of the chain, or on none."""
        outcome = await self._store.budgets.reserve(structs.replace(ask, key_digest=KEY_DIGEST))
        if isinstance(outcome, Held):
            self._windows[ask.id] = outcome.windows
        return outcome

    async def extend(self, ask: Ask) -> ExtendOutcome:
        """Raise a hold."""
        return await self._store.budgets.extend(ask, self._known_windows(ask.id))

    async def settle(self, id: str, agent: str, cost_microcents: int) -> Settled:
        """Replace a hold by the cost."""
        windows = self._known_windows(id)
        settlement = Settlement(ORG, agent, id, windows, cost_microcents, b"{}")
        return await self._store.budgets.settle(settlement)

    async def release(self, id: str, agent: str) -> Released:
        """Give a hold back."""
        return await self._store.budgets.release(ORG, agent, id, self._known_windows(id))

    async def expire(self, id: str) -> str:
        """End an overdue hold and return its state."""
        [state] = await self._store.budgets.expire(ORG, self._known_windows(id), [id])
        return state

    async def credit(self, change: Credit) -> CreditWord:
        """Raise or lower what one budget may spend in one window."""
        return await self._store.budgets.credit(change)

    async def window_id(self, kind: WindowKind) -> str:
        """Return the id of the window of a kind that was opened last; empty for total."""
        found: bytes | None = await self._store.client.hget(org_key(ORG, "meta"), f"{kind}.id")
        return found.decode() if found is not None else ""

    async def counters(self) -> dict[tuple[str, str], Counters]:
        """Return what is not zero, by packed window and scope."""
        prefix = org_key(ORG, "spend:")
        keys = [key async for key in self._store.client.scan_iter(f"{prefix}*")]
        windows = [key.decode().removeprefix(prefix) for key in keys]
        counters = (await self._store.budgets.inspect(ORG, ",".join(windows))).counters
        return {place: numbers for place, numbers in counters.items() if any(numbers)}

    def _known_windows(self, id: str) -> str:
        proposal = self._store.budgets.propose(ORG, self._store.now_ms)
        return self._windows.get(id, proposal.packed)
