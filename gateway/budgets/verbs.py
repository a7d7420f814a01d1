"""The verbs: every change of money, each one script call that is idempotent by its id."""

import asyncio
import time
from collections.abc import Sequence

from msgspec import Struct

from gateway.budgets import replies
from gateway.budgets.calls import Calls
from gateway.budgets.changes import Request, Settlement
from gateway.budgets.keys import EXPIRY, JOURNAL, NODE, org_key, spend_keys
from gateway.budgets.node import Node
from gateway.budgets.proposals import Proposal, Proposals
from gateway.budgets.records import ended_request, held_request, split_token
from gateway.budgets.replies import Inspection, Reply
from gateway.budgets.scripts import Scripts
from gateway.budgets.settling import Settling
from gateway.budgets.waiter import fail
from gateway.budgets.wire import Wire
from gateway.domain.reservation import (
    Ask,
    ExtendOutcome,
    KeyStatus,
    Refused,
    Released,
    ReserveOutcome,
    Settled,
)
from gateway.domain.reservation_id import reserved_ms
from gateway.errors import StoreError, StoreNotReady

# A proposal can be wrong at a boundary, and once more after a change of zone.
_ATTEMPTS_LEFT = (2, 1, 0)
_NO_MARKER = "The store has no node marker; run migrate or rebuild."


class Budgets:
    """The budgets of a deployment, as the data plane and the workers use them.

    Every verb raises ``StoreUnavailable`` within the deadline of the connection where Redis does
    not answer; ``OutcomeUnknown``, one of its kind, says that the call may have been applied and
    may be repeated as it is. Denials are returned, never raised. ``calls`` queues the two verbs
    of every invocation for whoever reads their replies on its own.
    """

    def __init__(
        self, wire: Wire, scripts: Scripts, hold_ttl_ms: int, journal_entries_max: int
    ) -> None:
        self.wire = wire
        self._scripts = scripts
        self._hold_ttl_ms = hold_ttl_ms
        self.calls = Calls(wire, scripts, hold_ttl_ms, journal_entries_max)
        self._proposals = Proposals(())
        self._proposals_for: Node | None = None

    async def reserve(self, ask: Ask) -> ReserveOutcome:
        """Hold the amount on every budget of the chain, or on none.

        An ``OutcomeUnknown`` from here leaves the caller to repeat the same ask or to release it.
        """
        return await self.end_reserve(ask, await self.begin_reserve(ask))

    def begin_reserve(self, ask: Ask) -> asyncio.Future[Reply]:
        """Queue the first attempt to reserve; ``end_reserve`` knows what its reply says."""
        return self.calls.reserve(ask, self.propose(ask.org, time.time_ns() // 1_000_000))

    async def end_reserve(self, ask: Ask, reply: Reply) -> ReserveOutcome:
        """Return the outcome of a reserve that began; ask again where other windows run."""
        for attempts_left in _ATTEMPTS_LEFT:
            with replies.reading():
                if reply[0] != b"WINDOW":
                    return replies.reserve_outcome(reply, ask.idempotency_digest)
                zone, stored, server_ms = replies.running(reply)
                learned = self._proposals.learn(ask.org, zone, stored, server_ms)
            if learned is None:
                return Refused("LIMITS_INVALID", "timezone")
            if attempts_left:
                reply = await self.calls.reserve(ask, learned)
        return Refused("WINDOW")

    def propose(self, org: str, now_ms: int) -> Proposal:
        """Return the windows to propose for an org at an instant.

        Raises:
            StoreNotReady: nothing may be admitted.
        """
        node = self.wire.admits
        # Read anew twice a second, and nearly always the same.
        if node is None or node is not self._proposals_for:
            self._follow(node)
        return self._proposals.current(org, now_ms)

    def begin_resume(self, ask: Ask, windows: str, key_id: str) -> asyncio.Future[Reply]:
        """Queue to hold again what was held before, whatever there is room for.

        Also while nothing new may be admitted. ``windows`` is what ``Held`` gave, ``ask.ttl_ms``
        how long it is held from now; ``replies.resumed`` knows what the reply says.
        """
        packed, idem_digest = split_token(windows)
        key = _org_keys(ask.org)
        return self.wire.submit(
            self._scripts.resume,
            (
                f"{key}meta",
                f"{key}holds",
                EXPIRY,
                f"{key}done:{ask.id}",
                f"{key}rate",
                f"{key}idem:{idem_digest or '-'}",
                *spend_keys(ask.org, packed),
            ),
            (
                ask.id,
                reserved_ms(ask.id),
                ask.org,
                ask.agent,
                ask.amount_microcents,
                ask.ttl_ms,
                key_id,
                ask.owner,
                ask.body_digest,
                idem_digest,
                packed,
            ),
        )

    def submit_reserve(self, ask: Ask, proposal: Proposal) -> asyncio.Future[Reply]:
        """Queue one reserve with a proposal; the answer may be WINDOW."""
        return self.calls.reserve(ask, proposal)

    def settle(self, settlement: Settlement) -> asyncio.Future[Settled]:
        """Queue the real cost at once; it leaves at the end of this turn of the event loop.

        The future may be waited for later, or not at all. It is one attempt: after an error the
        same settlement may be handed in again, as often as needed. Its ``windows`` may be empty
        where the reservation was settled before: that record names none.
        """
        end, send = self.wire.future(), self.calls.settle
        windows = settlement.windows or self._packed_now(settlement.org)
        send(settlement, windows, Settling(settlement, send, _Awaited(end)))
        return end

    async def release(self, org: str, agent: str, reservation_id: str, windows: str) -> Released:
        """Give a hold back. An unknown id becomes void, so that a late reserve finds it ended.

        ``windows`` is what ``Held`` gave, or empty where no answer to the reserve ever came.
        """
        packed, idem_digest = split_token(windows or self._packed_now(org))
        key = _org_keys(org)
        for _ in _ATTEMPTS_LEFT:
            reply = await self.wire.submit(
                self._scripts.release,
                (
                    f"{key}meta",
                    f"{key}holds",
                    EXPIRY,
                    f"{key}done:{reservation_id}",
                    f"{key}rate",
                    f"{key}idem:{idem_digest or '-'}",
                    *spend_keys(org, packed),
                ),
                (reservation_id, reserved_ms(reservation_id), org, agent, packed, idem_digest),
            )
            with replies.reading():
                if reply[0] != b"WINDOWS":
                    return replies.released(reply)
                packed, idem_digest = map(replies.text, reply[1:3])
        raise replies.unreadable(LookupError("other windows at every try"))

    async def extend(self, ask: Ask, windows: str) -> ExtendOutcome:
        """Raise an open hold to ``ask.amount_microcents`` and keep it for ``ask.ttl_ms`` more.

        Absolute and never less. More time alone is never refused.
        """
        packed, idem_digest = split_token(windows)
        key = _org_keys(ask.org)
        for _ in _ATTEMPTS_LEFT:
            reply = await self.wire.submit(
                self._scripts.extend,
                (
                    f"{key}limits",
                    f"{key}meta",
                    f"{key}holds",
                    EXPIRY,
                    JOURNAL,
                    *spend_keys(ask.org, packed),
                ),
                (
                    ask.id,
                    ask.org,
                    ask.agent,
                    ask.amount_microcents,
                    ask.ttl_ms or self._hold_ttl_ms,
                    packed,
                    self.wire.epoch,
                ),
            )
            with replies.reading():
                if reply[0] != b"WINDOWS":
                    return replies.extend_outcome(reply, idem_digest)
                packed, idem_digest = map(replies.text, reply[1:3])
        raise replies.unreadable(LookupError("other windows at every try"))

    async def authenticate(self, org: str, key_digest: str, agent: str = "") -> KeyStatus:
        """Say whether a key may be used, and for an agent where one is named."""
        self._follow(self.wire.node)
        keys = (org_key(org, "meta"), org_key(org, "keys"))
        reply = await self.wire.submit(self._scripts.authenticate, keys, (key_digest, agent))
        with replies.reading():
            return replies.key_status(reply)

    async def agent_json(self, org: str, agent: str) -> bytes | None:
        """Return the description of an agent as the registry wrote it, or None.

        Raises:
            StoreNotReady: there is none, and no marker that is believed: the store has lost it.
        """
        found: object = await self.wire.command("HGET", org_key(org, "agents"), agent)
        if found is not None and not isinstance(found, bytes):
            raise replies.unreadable(TypeError(f"{found!r} is no text"))
        # Whoever remembers that an agent is unknown would say so after a rebuild, too.
        if found is None and not await self.is_marked():
            raise StoreNotReady(self.wire.problem or _NO_MARKER)
        return found

    async def is_marked(self) -> bool:
        """Ask whether the node marker stands, is the one that was last seen, and is believed.

        What an older file of Redis does not know may be there again in a moment.
        """
        ready, epoch = await self.wire.command("HMGET", NODE, "ready", "epoch")
        is_known = ready == b"1" and epoch == self.wire.epoch.encode()
        return is_known and not self.wire.problem

    async def inspect(self, org: str, windows: str = "", names: Sequence[str] = ()) -> Inspection:
        """Return counters and the last journal id at one instant.

        ``windows`` is a packed list; empty stands for the windows that run now. ``names`` are those
        of the org's own hashes that are looked at too.
        """
        packed = (windows or self._packed_now(org)).split(",")
        hashes = (*spend_keys(org, ",".join(packed)), *(org_key(org, name) for name in names))
        keys = (org_key(org, "meta"), JOURNAL, *hashes)
        reply = await self.wire.submit(self._scripts.inspect, keys, ())
        with replies.reading():
            return replies.inspection(reply, packed)

    async def request(self, org: str, reservation_id: str) -> Request | None:
        """Return what is known of a reservation: open, or ended within its tombstone's life."""
        key = _org_keys(org)
        # In this order: one that ends between the two is seen ended, never as unknown.
        held, ended = await asyncio.gather(
            self.wire.command("HGET", f"{key}holds", reservation_id),
            self.wire.command("GET", f"{key}done:{reservation_id}"),
        )
        if ended is not None:
            return ended_request(replies.text(ended))
        return held_request(replies.text(held)) if held is not None else None

    def _follow(self, node: Node | None) -> None:
        """Propose the windows of a node from now on; without one nothing may be asked."""
        if node is None:
            raise StoreNotReady(self.wire.problem or _NO_MARKER)
        if node != self._proposals_for:
            self._proposals = Proposals(node.windows)
        self._proposals_for = node

    def _packed_now(self, org: str) -> str:
        self._follow(self.wire.node)
        return self._proposals.current(org, time.time_ns() // 1_000_000).packed


def _org_keys(org: str) -> str:
    return f"bg:{{{org}}}:"


class _Awaited(Struct, frozen=True, eq=False):
    """Tells a future the end of a settlement."""

    future: asyncio.Future[Settled]

    def ended(self, _: Settlement, end: Settled, seq: int, /) -> None:
        """Take what Redis has made of it."""
        if not self.future.done():
            self.future.set_result(end)

    def failed(self, _: Settlement, fault: StoreError, /) -> None:
        """Take why that is not known."""
        fail(self.future, fault)
