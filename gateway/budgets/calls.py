"""Calls: the two scripts that every invocation asks for, reserve and settle, in their frames."""

import asyncio
from typing import Any, NamedTuple

from msgspec import json

from gateway.budgets.changes import Settlement
from gateway.budgets.frames import Frame, Hole, Word, filled, framed
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
# The digits of the sizes of amounts, and of most details.
_SIZES = {size: b"%d" % size for size in range(1024)}


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


# By everything that a frame is made of: nothing can change that its frame does not say. In words,
# not as a shape: that would cost more to make than the frame to find.
_Frames = dict[tuple[Any, ...], Frame]


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
        self._reserve_frames: _Frames = {}
        self._settle_frames: _Frames = {}

    def reserve(self, ask: Ask, proposal: Proposal) -> "asyncio.Future[Reply]":
        """Queue one reserve; the future is its reply."""
        own_id, instant = ask.id.encode(), instant_ms(ask.id[INSTANT])
        amount, line = _digits(ask.amount_microcents), self._wire.line
        shape: tuple[Any, ...] = (
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
        frames, size = self._reserve_frames, _SIZES[len(amount)]
        if ask.body_digest or ask.idempotency_digest:
            body, idem = ask.body_digest.encode(), ask.idempotency_digest.encode()
            shape = (*shape, len(body), len(idem))
            parts, source = frames.get(shape) or self._new_reserve_frame(shape)
            command = filled(parts, (own_id, idem, own_id, instant, size, amount, body, idem))
        else:
            # Joined here, because to have ``filled`` do it takes twice as long.
            (a, b, c, d, e, f), source = frames.get(shape) or self._new_reserve_frame(shape)
            command = b"".join((a, own_id, b, own_id, c, instant, d, size, e, amount, f))
        reply = self._wire.future()
        line.transmit(reply, command, source)
        return reply

    def settle(self, settlement: Settlement, token: str, waiter: Waiter) -> None:
        """Queue one settle in the windows of a token."""
        own_id, instant = settlement.id.encode(), instant_ms(settlement.id[INSTANT])
        cost, detail = _digits(settlement.cost_microcents), settlement.detail
        line = self._wire.line
        shape: tuple[Any, ...] = (
            settlement.org,
            settlement.agent,
            self._wire.epoch,
            line.form,
            len(own_id),
            len(instant),
            token,
        )
        size = _SIZES[len(cost)]
        length = _SIZES.get(len(detail)) or b"%d" % len(detail)
        frames = self._settle_frames
        if IDEM in token:
            windows, idem_digest = split_token(token)
            idem = idem_digest.encode()
            shape = (*shape[:-1], windows, len(idem))
            parts, source = frames.get(shape) or self._new_settle_frame(shape)
            own = (own_id, idem, own_id, instant, size, cost, idem, length, detail)
            command = filled(parts, own)
        else:
            (a, b, c, d, e, f, g, h), source = frames.get(shape) or self._new_settle_frame(shape)
            command = b"".join(
                (a, own_id, b, own_id, c, instant, d, size, e, cost, f, length, g, detail, h)
            )
        line.transmit(waiter, command, source)

    def _new_reserve_frame(self, words: tuple[Any, ...]) -> Frame:
        shape = _ReserveShape(*words)
        org, packed = shape.org, shape.proposal.packed
        own = (org_key(org, name) for name in ("limits", "meta", "keys", "holds"))
        asked = (Hole(shape.id_size), Hole(shape.instant_size), org, shape.agent, Hole())
        times = (shape.ttl_ms, self._hold_ttl_ms)
        digests = (shape.key_digest, shape.owner, _open(shape.body_size), _open(shape.idem_size))
        windows = (self._journal_entries_max, shape.epoch, packed, shape.proposal.bounds)
        frame = framed(
            self._scripts.reserve[shape.form],
            (*own, *_last_keys(org, packed, shape.id_size, shape.idem_size)),
            (*asked, *times, *digests, shape.proposal.zone, *windows),
        )
        return _remembered(self._reserve_frames, words, frame)

    def _new_settle_frame(self, words: tuple[Any, ...]) -> Frame:
        shape = _SettleShape(*words)
        org, windows = shape.org, shape.windows
        own = (org_key(org, name) for name in ("limits", "meta", "holds"))
        asked = (Hole(shape.id_size), Hole(shape.instant_size), org, shape.agent, Hole())
        frame = framed(
            self._scripts.settle[shape.form],
            (*own, *_last_keys(org, windows, shape.id_size, shape.idem_size)),
            (*asked, windows, _open(shape.idem_size), shape.epoch, Hole()),
        )
        return _remembered(self._settle_frames, words, frame)


def _remembered(frames: _Frames, words: tuple[Any, ...], frame: Frame) -> Frame:
    """Keep a frame, in place of the oldest where there are too many, and return it."""
    if len(frames) >= _FRAMES_MAX:
        del frames[next(iter(frames))]
    frames[words] = frame
    return frame


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
