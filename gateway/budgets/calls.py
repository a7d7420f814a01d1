"""Calls: the two scripts that every invocation asks for, reserve and settle, in their frames."""

import asyncio
from typing import Any

from gateway.budgets.changes import Settlement
from gateway.budgets.frames import HOLE, Frame
from gateway.budgets.keys import EXPIRY, JOURNAL, spend_keys
from gateway.budgets.proposals import Proposal
from gateway.budgets.records import split_token
from gateway.budgets.scripts import Script, Scripts
from gateway.budgets.wire import Wire
from gateway.domain.reservation import Ask
from gateway.domain.reservation_id import reserved_ms

# Two per org, and new ones when a window ends; each takes about 2 KB.
_FRAMES_MAX = 10_000


class Calls:
    """Puts both calls together; the order of words is that of the scripts' headers."""

    def __init__(self, scripts: Scripts, hold_ttl_ms: int, journal_entries_max: int) -> None:
        self._scripts = scripts
        self._hold_ttl_ms = hold_ttl_ms
        self._journal_entries_max = journal_entries_max
        self._frames: dict[tuple[str, ...], Frame] = {}

    def reserve(
        self, wire: Wire, ask: Ask, proposal: Proposal, epoch: str
    ) -> "asyncio.Future[list[Any]]":
        """Queue one reserve."""
        # The bounds do not name total, and the names have no instants.
        known = (ask.org, proposal.zone, proposal.packed, proposal.bounds, epoch)
        frame = self._frames.get(known) or self._remember(
            known, self._reserve_frame(ask.org, proposal, epoch)
        )
        digest = ask.idempotency_digest.encode()
        own_id = ask.id.encode()
        key = b"bg:{%b}:" % ask.org.encode()
        values = (
            key + b"done:" + own_id,
            key + b"idem:" + (digest or b"-"),
            own_id,
            reserved_ms(ask.id),
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
    ) -> "asyncio.Future[list[Any]]":
        """Queue one settle in the windows of a token."""
        windows, idem_digest = split_token(token)
        known = (settlement.org, windows, epoch)
        frame = self._frames.get(known) or self._remember(
            known, _settle_frame(self._scripts.settle, settlement.org, windows, epoch)
        )
        digest = idem_digest.encode()
        own_id = settlement.id.encode()
        key = b"bg:{%b}:" % settlement.org.encode()
        values = (
            key + b"done:" + own_id,
            key + b"idem:" + (digest or b"-"),
            own_id,
            reserved_ms(settlement.id),
            settlement.agent.encode(),
            str(settlement.cost_microcents).encode(),
            digest,
            settlement.detail,
        )
        return wire.submit_frame(frame, values)

    def _reserve_frame(self, org: str, proposal: Proposal, epoch: str) -> Frame:
        key = f"bg:{{{org}}}:"
        keys = (f"{key}limits", f"{key}meta", f"{key}keys", f"{key}holds", EXPIRY, HOLE, JOURNAL)
        # id, reserved_ms, org, agent, amount, ttl_ms
        asked = (HOLE, HOLE, org, HOLE, HOLE, HOLE, self._hold_ttl_ms)
        # key digest, owner, body digest, idempotency digest
        digests = (HOLE, HOLE, HOLE, HOLE)
        windows = (proposal.zone, self._journal_entries_max, epoch, proposal.packed)
        return Frame(
            self._scripts.reserve,
            [*keys, f"{key}rate", HOLE, *proposal.keys],
            [*asked, *digests, *windows, proposal.bounds, *proposal.kinds],
        )

    def _remember(self, known: tuple[str, ...], frame: Frame) -> Frame:
        if len(self._frames) >= _FRAMES_MAX:
            self._frames.clear()
        self._frames[known] = frame
        return frame


def _settle_frame(script: Script, org: str, windows: str, epoch: str) -> Frame:
    key = f"bg:{{{org}}}:"
    keys = (f"{key}limits", f"{key}meta", f"{key}holds", EXPIRY, HOLE, JOURNAL, f"{key}rate", HOLE)
    # id, reserved_ms, org, agent, amount, windows, idempotency digest, epoch, detail
    args = (HOLE, HOLE, org, HOLE, HOLE, windows, HOLE, epoch, HOLE)
    return Frame(script, (*keys, *spend_keys(org, windows)), args)
