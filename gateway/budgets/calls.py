"""Calls: the two scripts that every invocation asks for, reserve and settle, in their frames."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from gateway.budgets.changes import Settlement
from gateway.budgets.frames import Filling, Frame, Hole, Word
from gateway.budgets.keys import EXPIRY, JOURNAL, org_key, spend_keys
from gateway.budgets.proposals import Proposal
from gateway.budgets.records import split_token
from gateway.budgets.scripts import Scripts
from gateway.budgets.waiter import Waiter
from gateway.domain.reservation import Ask, Owner
from gateway.domain.reservation_id import reserved_ms

# Queues a frame with what fills it, as ``wire.Wire`` does.
Submit = Callable[[Frame, Filling, Waiter], None]
# Of each call one per org, agent and key, and new ones when a window ends; a pair takes about
# 4 KB with what it is remembered by, so all of them 16 MB.
_FRAMES_MAX = 4_000


class _ReserveShape(NamedTuple):
    """All that a frame of reserve is made of; sizes are those of what it leaves open."""

    org: str
    agent: str
    key_digest: str
    owner: Owner
    ttl_ms: int
    proposal: Proposal
    epoch: str
    id_size: int
    instant_size: int
    idem_size: int
    body_size: int


class _SettleShape(NamedTuple):
    """All that a frame of settle is made of; sizes are those of what it leaves open."""

    org: str
    agent: str
    windows: str
    epoch: str
    id_size: int
    instant_size: int
    idem_size: int


class Calls:
    """Puts both calls together; the order of words is that of the scripts' headers."""

    def __init__(self, scripts: Scripts, hold_ttl_ms: int, journal_entries_max: int) -> None:
        self._scripts = scripts
        self._hold_ttl_ms = hold_ttl_ms
        self._journal_entries_max = journal_entries_max
        # By everything that a frame is made of: nothing can change that its frame does not say.
        # In words, not as a shape: that would cost more to make than the frame to find.
        self._reserve_frame = lru_cache(_FRAMES_MAX)(self._new_reserve_frame)
        self._settle_frame = lru_cache(_FRAMES_MAX)(self._new_settle_frame)

    def reserve(
        self, submit: Submit, ask: Ask, proposal: Proposal, epoch: str, waiter: Waiter
    ) -> None:
        """Queue one reserve."""
        own_id, instant = ask.id.encode(), reserved_ms(ask.id)
        idem, body = ask.idempotency_digest.encode(), ask.body_digest.encode()
        frame = self._reserve_frame(
            ask.org,
            ask.agent,
            ask.key_digest,
            ask.owner,
            ask.ttl_ms,
            proposal,
            epoch,
            len(own_id),
            len(instant),
            len(idem),
            len(body),
        )
        amount = str(ask.amount_microcents).encode()
        filling = (own_id, idem, own_id, instant, len(amount), amount, body, idem)
        submit(frame, filling, waiter)

    def settle(
        self, submit: Submit, settlement: Settlement, token: str, epoch: str, waiter: Waiter
    ) -> None:
        """Queue one settle in the windows of a token."""
        windows, idem_digest = split_token(token)
        own_id, instant = settlement.id.encode(), reserved_ms(settlement.id)
        idem = idem_digest.encode()
        frame = self._settle_frame(
            settlement.org,
            settlement.agent,
            windows,
            epoch,
            len(own_id),
            len(instant),
            len(idem),
        )
        cost, detail = str(settlement.cost_microcents).encode(), settlement.detail
        filling = (own_id, idem, own_id, instant, len(cost), cost, idem, len(detail), detail)
        submit(frame, filling, waiter)

    def _new_reserve_frame(self, *words: Any) -> Frame:
        shape = _ReserveShape(*words)
        org, packed = shape.org, shape.proposal.packed
        own = (org_key(org, name) for name in ("limits", "meta", "keys", "holds"))
        asked = (Hole(shape.id_size), Hole(shape.instant_size), org, shape.agent, Hole())
        times = (shape.ttl_ms, self._hold_ttl_ms)
        digests = (shape.key_digest, shape.owner, Hole(shape.body_size), Hole(shape.idem_size))
        windows = (self._journal_entries_max, shape.epoch, packed, shape.proposal.bounds)
        kinds = [window.partition(":")[0] for window in packed.split(",")]
        return Frame(
            self._scripts.reserve,
            (*own, *_last_keys(org, packed, shape.id_size, shape.idem_size)),
            (*asked, *times, *digests, shape.proposal.zone, *windows, *kinds),
        )

    def _new_settle_frame(self, *words: Any) -> Frame:
        shape = _SettleShape(*words)
        org, windows = shape.org, shape.windows
        own = (org_key(org, name) for name in ("limits", "meta", "holds"))
        asked = (Hole(shape.id_size), Hole(shape.instant_size), org, shape.agent, Hole())
        return Frame(
            self._scripts.settle,
            (*own, *_last_keys(org, windows, shape.id_size, shape.idem_size)),
            (*asked, windows, Hole(shape.idem_size), shape.epoch, Hole()),
        )


def _last_keys(org: str, windows: str, id_size: int, idem_size: int) -> tuple[Word | Hole, ...]:
    """Return the keys that both calls end with: how the reservation ended, its windows."""
    done = Hole(id_size, org_key(org, "done:").encode())
    idem = Hole(idem_size, org_key(org, "idem:" if idem_size else "idem:-").encode())
    return (EXPIRY, done, JOURNAL, org_key(org, "rate"), idem, *spend_keys(org, windows))
