"""A random history of an org, what Redis holds after it, and a Redis that dies after n writes."""

import random
from typing import Any

from redis.asyncio import Connection, ConnectionPool, Redis
from redis.exceptions import ConnectionError
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.changes import Settlement
from gateway.budgets.keys import JOURNAL
from gateway.domain.reservation import Ask, Held
from gateway.domain.window import WindowKind
from gateway.registry.agents import add_agent, remove_agent
from gateway.registry.clients import Clients
from gateway.registry.credits import ask_credit, give_credit
from gateway.registry.differences import is_posted
from gateway.registry.keys import mint_key, revoke_key
from gateway.registry.limits import Author, set_limits, unset_limits
from gateway.registry.limits_mirror import mirror_limits
from workers.journal_pump import JournalPump

CENT = 1_000_000
AUTHOR = Author("tester", "a test")
ORGS = ("acme", "evil")
AGENTS = ("researcher", "writer")
ZONES = ("UTC", "Europe/Berlin", "Pacific/Kiritimati", "America/Los_Angeles")
DESCRIPTION = {"upstream": "http://127.0.0.1:9000", "price": {"mode": "flat", "cents": "2"}}
_META = {"zone", "billing_status", "schema"}


async def spend(budgets: Bookkeeping, org: str, agent: str, amount_microcents: int) -> bool:
    """Make one call and return whether it was admitted."""
    ask = Ask(str(ULID()), org, agent, amount_microcents)
    held = await budgets.reserve(ask)
    if isinstance(held, Held):
        cost = amount_microcents // 2
        await budgets.settle(Settlement(org, agent, ask.id, held.windows, cost, b"{}"))
    return isinstance(held, Held)


async def post_all(clients: Clients, pump: JournalPump) -> None:
    """Post whatever is in the journal, without the second that a pump waits for more."""
    entries = await clients.redis.xrevrange(JOURNAL, count=1)
    while entries and not await is_posted(clients.redis, entries[0][0]):
        await pump.step()


async def live(
    clients: Clients, seed: int, steps: int, pump: JournalPump, budgets: Bookkeeping
) -> None:
    """Do what operators and agents do, in an order that a seed repeats; then all is booked."""
    chance = random.Random(seed)
    for _ in range(steps):
        org, agent = chance.choice(ORGS), chance.choice(AGENTS)
        step = chance.randrange(10)
        if step < 5:
            await spend(budgets, org, agent, chance.randrange(3 * CENT))
        elif step == 5:
            await credit(clients, budgets, org, chance)
        elif step == 6:
            await by_hand(clients.redis, org, chance)
        elif step == 7:
            await by_command(clients, org, chance)
        elif step == 8:
            minted = await mint_key(clients, org, (agent,))
            if chance.random() < 0.5:
                await revoke_key(clients, org, minted.key_id)
        else:
            await add_agent(clients, org, agent, DESCRIPTION)
            if chance.random() < 0.3:
                await remove_agent(clients, org, agent)
        if chance.random() < 0.2:
            await post_all(clients, pump)
    await post_all(clients, pump)
    await mirror_limits(clients, ORGS)


async def credit(clients: Clients, budgets: Bookkeeping, org: str, chance: random.Random) -> None:
    """Raise or lower a budget in a window that runs, or ask for it only."""
    meta = await clients.redis.hgetall(f"bg:{{{org}}}:meta")
    amount = chance.choice((1, -1)) * chance.randrange(1, CENT)
    budget: tuple[str, WindowKind, str]
    if chance.random() < 0.5 or "day.id" not in meta:
        budget = ("org", "total", "")
    else:
        budget = ("agent.writer", "day", meta["day.id"])
    if chance.random() < 0.2:
        await ask_credit(clients, org, budget, amount, AUTHOR)
    else:
        await give_credit(clients, budgets, org, budget, amount, AUTHOR)


async def by_hand(redis: Any, org: str, chance: random.Random) -> None:
    """Change limits as an operator with redis-cli does."""
    changes = {
        "org.day.limit_cents": str(chance.randrange(5, 50)),
        "timezone": chance.choice(ZONES),
        "agent.*.rpm": str(chance.randrange(1000, 2000)),
        "org.mnoth.limit_cents": "7\0",
    }
    field = chance.choice(sorted(changes))
    await redis.hset(f"bg:{{{org}}}:limits", field, changes[field])
    if chance.random() < 0.2:
        await redis.hset(f"bg:{{{org}}}:meta", "billing_status", "ok")


async def by_command(clients: Clients, org: str, chance: random.Random) -> None:
    """Change limits with a record."""
    if chance.random() < 0.3:
        await unset_limits(clients, org, ["org.day.limit_cents"], AUTHOR)
    else:
        changes = {"org.day.limit_cents": str(chance.randrange(5, 50))}
        await set_limits(clients, org, changes, AUTHOR)


async def contents(redis: Any) -> dict[str, dict[str, str]]:
    """Return what Redis holds of the orgs, but for holds, marks, memories and counters of zero."""
    found = {}
    for org in ORGS:
        for name in ("limits", "agents", "keys", "meta"):
            fields = await redis.hgetall(f"bg:{{{org}}}:{name}")
            if name == "meta":
                fields = {
                    field: value
                    for field, value in fields.items()
                    if field in _META or field.endswith((".id", ".start", ".end"))
                }
            # Postgres stores no NUL; what cannot be a limit stays what cannot be one.
            found[f"{org} {name}"] = {
                field: value.replace("\0", "\ufffd") for field, value in fields.items()
            }
        async for key in redis.scan_iter(match=f"bg:{{{org}}}:spend:*"):
            fields = await redis.hgetall(key)
            found[key] = {
                field: value
                for field, value in fields.items()
                if field.endswith((".spent", ".credit")) and value != "0"
            }
            found[f"{key} ttl"] = {"at": str(await redis.pexpiretime(key))}
    return found


class _Dying(Connection):
    """A connection that fails at the n-th write of all of its pool, before or after it is sent."""

    def __init__(self, *, lives: list[int], sends: bool, **options: Any) -> None:
        super().__init__(**options)
        self._lives, self._sends = lives, sends

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self._lives[0] -= 1
        if self._lives[0] >= 0:
            await super().send_packed_command(command, check_health)
            return
        if self._lives[0] == -1 and self._sends:
            await super().send_packed_command(command, check_health)
            # It has arrived: what Redis answers to it is lost.
            await super().read_response()
        await self.disconnect(nowait=True)
        raise ConnectionError("The rebuilder was killed here.")


def dying_client(url: str, writes: int, *, sends: bool) -> Any:
    """Return a client of a rebuilder that is killed at its n-th write, before or after it."""
    pool = ConnectionPool.from_url(url, decode_responses=True, lives=[writes], sends=sends)
    pool.connection_class = _Dying
    return Redis.from_pool(pool)
