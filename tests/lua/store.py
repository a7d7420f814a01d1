"""A store under test: the verbs over fakeredis or a real server, with a clock that can be set."""

import asyncio
import hashlib
from collections.abc import Awaitable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import hiredis
from msgspec import structs
from redis.exceptions import NoScriptError
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.changes import Settlement
from gateway.budgets.node import Node, epoch_of
from gateway.budgets.scripts import Form, Script, load_scripts
from gateway.budgets.waiter import Waiter, fail
from gateway.domain.reservation import Ask, Held, ReserveOutcome, Settled
from gateway.errors import StoreError

# Keys expire by the clock of the server, so the tests live in the future; 2037 has the calendar
# of 2026.
NOON = "2037-11-22T12:00:00Z"
KEY_DIGEST = hashlib.sha256(b"bgk_acme_k1_secret").hexdigest()
FROZEN_CLOCK = Path(__file__).parent / "include"
ORG = "acme"
NODE = Node(1, "1", ("day", "month", "total"))
LIMITS = {"status": "active", "org.month.limit_cents": "1000"}


def ms(text: str) -> int:
    """Return the epoch milliseconds of an ISO instant."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def cents(amount: float) -> int:
    """Return microcents."""
    return round(amount * 1_000_000)


class ClientWire:
    """The verbs' wire over a redis-py client; fakeredis has no socket for the real one."""

    def __init__(self, client: Any, flagged: bool, node: Node) -> None:
        self.client = client
        self.node: Node | None = node
        self.skew_ms: int | None = 0
        self.problem = ""
        self.form: Form = 1 if flagged else 2

    @property
    def admits(self) -> Node | None:
        """The node: nothing is ever in doubt here."""
        return self.node

    @property
    def epoch(self) -> str:
        """The epoch of the node."""
        return epoch_of(self.node)

    def submit(
        self,
        script: Script,
        keys: Sequence[str | bytes | int],
        args: Sequence[str | bytes | int],
    ) -> asyncio.Future[list[Any]]:
        """Run a script."""
        return asyncio.ensure_future(self._run(script, keys, args))

    async def _run(
        self,
        script: Script,
        keys: Sequence[str | bytes | int],
        args: Sequence[str | bytes | int],
    ) -> list[Any]:
        source = script[self.form]
        return await self._evaluate(source.sha, source.text, (len(keys), *keys, *args))

    async def _evaluate(
        self, sha: str | bytes, text: str | None, rest: Sequence[str | bytes | int]
    ) -> list[Any]:
        try:
            reply = await self.client.execute_command("EVALSHA", sha, *rest)
        except NoScriptError:
            reply = await self.client.execute_command("EVAL", text, *rest)
        return cast(list[Any], reply)

    @property
    def line(self) -> "ClientWire":
        """Return itself: it is its own line."""
        return self

    def transmit(self, waiter: Waiter, packed: bytes, source: str | None = None) -> None:
        """Run a script."""
        reader = hiredis.Reader()
        reader.feed(packed)
        _, sha, *rest = cast(list[bytes], reader.gets())
        reply = asyncio.ensure_future(self._evaluate(sha, source, rest))
        reply.add_done_callback(lambda reply: _tell(waiter, reply))

    def future(self) -> asyncio.Future[Any]:
        """Return a waiter that can be awaited."""
        return asyncio.get_running_loop().create_future()

    def command(self, *args: str | bytes | int) -> asyncio.Future[Any]:
        """Run a command."""
        return asyncio.ensure_future(cast(Awaitable[Any], self.client.execute_command(*args)))


def _tell(waiter: Waiter, reply: asyncio.Future[list[Any]]) -> None:
    fault = reply.exception()
    if fault is not None:
        # The client's own error: tests look for it.
        fail(waiter, cast(StoreError, fault))
    elif not waiter.done():
        waiter.set_result(reply.result())


class Store:
    """One org's budgets on one server, at an instant that stands still until it is moved."""

    def __init__(self, client: Any, flagged: bool, node: Node) -> None:
        self.client = client
        self.wire = ClientWire(client, flagged, node)
        self.budgets = Bookkeeping(self.wire, load_scripts(FROZEN_CLOCK), 60_000, 1_000)
        self.now_ms = 0

    async def at(self, instant: str | int) -> None:
        """Move the clock to an ISO instant, or on by milliseconds."""
        self.now_ms = ms(instant) if isinstance(instant, str) else self.now_ms + instant
        await self.client.set("test:now", self.now_ms)

    async def limits(self, fields: dict[str, str]) -> None:
        """Replace the limits hash."""
        await self.client.delete(f"bg:{{{ORG}}}:limits")
        if fields:
            await self.client.hset(f"bg:{{{ORG}}}:limits", mapping=fields)

    def id(self) -> str:
        """Return a new reservation id of this instant."""
        return str(ULID.from_timestamp(self.now_ms))

    def ask(self, amount_microcents: int, **changes: Any) -> Ask:
        """Return an ask of the agent researcher."""
        ask = Ask(self.id(), ORG, "researcher", amount_microcents, KEY_DIGEST, body_digest="b1")
        return structs.replace(ask, **changes)

    async def reserve(self, amount_microcents: int, **changes: Any) -> ReserveOutcome:
        """Reserve as the agent researcher, under a new id where none is given."""
        return await self.budgets.reserve(self.ask(amount_microcents, **changes))

    async def held(self, amount_microcents: int, **changes: Any) -> tuple[Ask, Held]:
        """Reserve and insist that it is held."""
        ask = self.ask(amount_microcents, **changes)
        outcome = await self.budgets.reserve(ask)
        assert isinstance(outcome, Held), outcome
        return ask, outcome

    async def settle(self, ask: Ask, held: Held, cost_microcents: int) -> Settled:
        """Settle what was held."""
        settlement = Settlement(ask.org, ask.agent, ask.id, held.windows, cost_microcents, b"{}")
        return await self.budgets.settle(settlement)

    async def spend(self, window: str = "total") -> dict[str, int]:
        """Return the counters of a window; marks are left out."""
        fields = await self.client.hgetall(f"bg:{{{ORG}}}:spend:{window}")
        return {
            name.decode(): int(number)
            for name, number in fields.items()
            if int(number) and not name.endswith((b".warned", b".denied"))
        }

    async def contents(self) -> dict[str, Any]:
        """Return all that the server holds: fields and members by themselves, but for the clock."""
        found: dict[str, Any] = {}
        for key in await self.client.keys("bg:*"):
            kind, parts = await self.client.type(key), {}
            if kind == b"hash":
                parts = await self.client.hgetall(key)
            elif kind == b"zset":
                parts = dict(await self.client.zrange(key, 0, -1, withscores=True))
            else:
                look = self.client.xrange if kind == b"stream" else self.client.get
                found[key.decode()] = await look(key)
            found |= {f"{key.decode()} {part.decode()}": value for part, value in parts.items()}
        return found

    async def journal(self, *kinds: str) -> list[dict[str, str]]:
        """Return the journal entries, of some kinds where they are named."""
        entries = [
            {name.decode(): value.decode() for name, value in fields.items()}
            for _, fields in await self.client.xrange("bg:journal")
        ]
        return [entry for entry in entries if not kinds or entry["kind"] in kinds]


async def open_store(client: Any, flagged: bool) -> Store:
    """Return an empty store at noon: org acme, agent researcher, a key, and 1000 cents a month."""
    await client.flushall()
    store = Store(client, flagged, NODE)
    await store.at(NOON)
    await store.limits(LIMITS)
    await client.hset(f"bg:{{{ORG}}}:meta", "schema", "1")
    await client.hset(f"bg:{{{ORG}}}:keys", KEY_DIGEST, "k1|active||*")
    return store
