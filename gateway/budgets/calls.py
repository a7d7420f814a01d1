"""Calls: the two scripts that every invocation asks for, reserve and settle, in their frames."""

import asyncio
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import json

from gateway.budgets.changes import Settlement
from gateway.budgets.frames import Filling, Frame, Hole, Word, framed
from gateway.budgets.keys import EXPIRY, JOURNAL, org_key, spend_keys
from gateway.budgets.proposals import Proposal
from gateway.budgets.records import IDEM, split_token
from gateway.budgets.replies import Reply
from gateway.budgets.scripts import Form, Scripts
from gateway.budgets.waiter import Waiter
from gateway.budgets.wire import Wire
from gateway.domain.reservation import Ask, Owner
from gateway.domain.reservation_id import INSTANT, instant_ms

# Of each call one per org, agent and key, and new ones when a window ends; a pair takes about
# 6 KB with what it is remembered by, so all of them 24 MB.
_FRAMES_MAX = 4_000
# The digits of an amount.
_digits = json.Encoder().encode


class _ReserveShape(NamedTuple):
    """All that a frame of reserve is made of; sizes are those of what it leaves open."""

    org: str
    agent: str
    key_digest: str
    owner: Owner
    ttl_ms: int
    proposal: Proposal
    epoch: str
    form: Form
    id_size: int
    instant_size: int
    body_size: int | None = None
    idem_size: int | None = None


class _SettleShape(NamedTuple):
    """All that a frame of settle is made of; sizes are those of what it leaves open."""

    org: str
    agent: str
    epoch: str
    form: Form
    id_size: int
    instant_size: int
    windows: str
    idem_size: int | None = None


class Calls:
    """Puts both calls together; the order of words is that of the scripts' headers.

    Most calls have no idempotency key, and their frames no holes for its digests.
    """

    def __init__(
        self, wire: Wire, scripts: Scripts, hold_ttl_ms: int, journal_entries_max: int
    ) -> None:
        self._wire = wire
        self._scripts = scripts
        self._hold_ttl_ms = hold_ttl_ms
        self._journal_entries_max = journal_entries_max
        # By everything that a frame is made of: nothing can change that its frame does not say.
        # In words, not as a shape: that would cost more to make than the frame to find.
        self._reserve_frame = lru_cache(_FRAMES_MAX)(self._new_reserve_frame)
        self._settle_frame = lru_cache(_FRAMES_MAX)(self._new_settle_frame)

    def reserve(self, ask: Ask, proposal: Proposal) -> "asyncio.Future[Reply]":
        """Queue one reserve; the future is its reply."""
        own_id, instant = ask.id.encode(), instant_ms(ask.id[INSTANT])
        amount, line = _digits(ask.amount_microcents), self._wire.line
        shape = (
            ask.org,
            ask.agent,
            ask.key_digest,
            ask.owner,
            ask.ttl_ms,
            proposal,
            self._wire.epoch,
            line.form,
            len(own_id),
            len(instant),
        )
        filling: Filling
        if ask.body_digest or ask.idempotency_digest:
            body, idem = ask.body_digest.encode(), ask.idempotency_digest.encode()
            command, source = self._reserve_frame(*shape, len(body), len(idem))
            filling = (own_id, idem, own_id, instant, len(amount), amount, body, idem)
        else:
            command, source = self._reserve_frame(*shape)
            filling = (own_id, own_id, instant, len(amount), amount)
        reply = self._wire.future()
        line.transmit(reply, command % filling, source)
        return reply

    def settle(self, settlement: Settlement, token: str, waiter: Waiter) -> None:
        """Queue one settle in the windows of a token."""
        own_id, instant = settlement.id.encode(), instant_ms(settlement.id[INSTANT])
        cost, detail = _digits(settlement.cost_microcents), settlement.detail
        line = self._wire.line
        shape = (
            settlement.org,
            settlement.agent,
            self._wire.epoch,
            line.form,
            len(own_id),
            len(instant),
            token,
        )
        filling: Filling
        if IDEM in token:
            windows, idem_digest = split_token(token)
            idem = idem_digest.encode()
            command, source = self._settle_frame(*shape[:-1], windows, len(idem))
            filling = (own_id, idem, own_id, instant, len(cost), cost, idem, len(detail), detail)
        else:
            command, source = self._settle_frame(*shape)
            filling = (own_id, own_id, instant, len(cost), cost, len(detail), detail)
        line.transmit(waiter, command % filling, source)

    def _new_reserve_frame(self, *words: Any) -> Frame:
        shape = _ReserveShape(*words)
        org, packed = shape.org, shape.proposal.packed
        own = (org_key(org, name) for name in ("limits", "meta", "keys", "holds"))
        asked = (Hole(shape.id_size), Hole(shape.instant_size), org, shape.agent, Hole())
        times = (shape.ttl_ms, self._hold_ttl_ms)
        digests = (shape.key_digest, shape.owner, _open(shape.body_size), _open(shape.idem_size))
        windows = (self._journal_entries_max, shape.epoch, packed, shape.proposal.bounds)
        kinds = [window.partition(":")[0] for window in packed.split(",")]
        return framed(
            self._scripts.reserve[shape.form],
            (*own, *_last_keys(org, packed, shape.id_size, shape.idem_size)),
            (*asked, *times, *digests, shape.proposal.zone, *windows, *kinds),
        )

    def _new_settle_frame(self, *words: Any) -> Frame:
        shape = _SettleShape(*words)
        org, windows = shape.org, shape.windows
        own = (org_key(org, name) for name in ("limits", "meta", "holds"))
        asked = (Hole(shape.id_size), Hole(shape.instant_size), org, shape.agent, Hole())
        return framed(
            self._scripts.settle[shape.form],
            (*own, *_last_keys(org, windows, shape.id_size, shape.idem_size)),
            (*asked, windows, _open(shape.idem_size), shape.epoch, Hole()),
        )


def _last_keys(
    org: str, windows: str, id_size: int, idem_size: int | None
) -> tuple[Word | Hole, ...]:
    """Return the keys that both calls end with: how the reservation ended, its windows."""
    done = Hole(id_size, org_key(org, "done:").encode())
    idem = org_key(org, "idem:" if idem_size else "idem:-")
    by_idem = idem if idem_size is None else Hole(idem_size, idem.encode())
    return (EXPIRY, done, JOURNAL, org_key(org, "rate"), by_idem, *spend_keys(org, windows))


def _open(size: int | None) -> Word | Hole:
    """Return the place of a digest: a hole, or the empty word where no call of a frame has one."""
    return "" if size is None else Hole(size)
