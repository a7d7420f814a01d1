"""Calls: the two scripts that every invocation asks for, reserve and settle, in their frames."""

import asyncio
from functools import lru_cache

from gateway.budgets.changes import Settlement
from gateway.budgets.frames import HOLE, Frame
from gateway.budgets.keys import EXPIRY, JOURNAL, spend_keys
from gateway.budgets.proposals import Proposal
from gateway.budgets.records import split_token
from gateway.budgets.replies import Reply
from gateway.budgets.scripts import Scripts
from gateway.budgets.wire import Wire
from gateway.domain.reservation import Ask
from gateway.domain.reservation_id import reserved_ms

# One of each per org, and new ones when a window ends; each takes about 2 KB.
_FRAMES_MAX = 5_000


class Calls:
    """Puts both calls together; the order of words is that of the scripts' headers."""

    def __init__(self, scripts: Scripts, hold_ttl_ms: int, journal_entries_max: int) -> None:
        self._scripts = scripts
        self._hold_ttl_ms = hold_ttl_ms
        self._journal_entries_max = journal_entries_max
        # By everything that a frame is made of: nothing can change that its frame does not say.
        self._reserve_frame = lru_cache(_FRAMES_MAX)(self._new_reserve_frame)
        self._settle_frame = lru_cache(_FRAMES_MAX)(self._new_settle_frame)

    def reserve(
        self, wire: Wire, ask: Ask, proposal: Proposal, epoch: str
    ) -> "asyncio.Future[Reply]":
        """Queue one reserve."""
        digest = ask.idempotency_digest.encode()
        frame = self._reserve_frame(ask.org, proposal.zone, proposal.packed, proposal.bounds, epoch)
        values = (
            *_named(ask.org, ask.id, digest),
            ask.agent.encode(),
            str(ask.amount_microcents).encode(),
            str(ask.ttl_ms).encode(),
            ask.key_digest.encode(),
            ask.owner.encode(),
            ask.body_digest.encode(),
            digest,
        )
        return wire.submit_frame(frame, values)

    def settle(
        self, wire: Wire, settlement: Settlement, token: str, epoch: str
    ) -> "asyncio.Future[Reply]":
        """Queue one settle in the windows of a token."""
        windows, idem_digest = split_token(token)
        digest = idem_digest.encode()
        values = (
            *_named(settlement.org, settlement.id, digest),
            settlement.agent.encode(),
            str(settlement.cost_microcents).encode(),
            digest,
            settlement.detail,
        )
        return wire.submit_frame(self._settle_frame(settlement.org, windows, epoch), values)

    def _new_reserve_frame(
        self, org: str, zone: str, packed: str, bounds: str, epoch: str
    ) -> Frame:
        key = f"bg:{{{org}}}:"
        keys = (f"{key}limits", f"{key}meta", f"{key}keys", f"{key}holds", EXPIRY, HOLE, JOURNAL)
        # id, reserved_ms, org, agent, amount, ttl_ms
        asked = (HOLE, HOLE, org, HOLE, HOLE, HOLE, self._hold_ttl_ms)
        # key digest, owner, body digest, idempotency digest
        digests = (HOLE, HOLE, HOLE, HOLE)
        windows = (zone, self._journal_entries_max, epoch, packed, bounds)
        kinds = [window.partition(":")[0] for window in packed.split(",")]
        return Frame(
            self._scripts.reserve,
            [*keys, f"{key}rate", HOLE, *spend_keys(org, packed)],
            [*asked, *digests, *windows, *kinds],
        )

    def _new_settle_frame(self, org: str, windows: str, epoch: str) -> Frame:
        key = f"bg:{{{org}}}:"
        keys = (f"{key}limits", f"{key}meta", f"{key}holds", EXPIRY, HOLE, JOURNAL)
        # id, reserved_ms, org, agent, amount, windows, idempotency digest, epoch, detail
        args = (HOLE, HOLE, org, HOLE, HOLE, windows, HOLE, epoch, HOLE)
        return Frame(
            self._scripts.settle, [*keys, f"{key}rate", HOLE, *spend_keys(org, windows)], args
        )


def _named(org: str, reservation_id: str, idem_digest: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the values that both calls begin with: two keys, the id, and the instant in it."""
    key, own_id = b"bg:{%b}:" % org.encode(), reservation_id.encode()
    idem_key = key + b"idem:" + (idem_digest or b"-")
    return key + b"done:" + own_id, idem_key, own_id, reserved_ms(reservation_id)
