"""Differences: what Redis has counted against what is booked and what is open, at one cut.

Counters and the last journal id are looked at in one step. The ledger is read once everything up
to that id was posted, and without what was booked of later entries. So traffic that goes on in
between is no difference. A repair is no journal entry: while one is on its way, the cut is
made anew. What is held is compared with the open holds, which are looked at in the same step.
"""

import asyncio
from datetime import datetime
from typing import Literal, NamedTuple

import asyncpg
import structlog
from redis.exceptions import ResponseError

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.keys import JOURNAL, JOURNAL_GROUP, RATE, org_key
from gateway.budgets.proposals import packed_window
from gateway.budgets.replies import Inspection
from gateway.domain.money import cents_from_microcents
from gateway.errors import StoreError, StoreNotReady
from gateway.ledger.sql import statement
from gateway.registry.clients import Clients, RedisClient
from gateway.registry.holds import counted_open, held_by, open_by
from gateway.registry.windows import kept_windows, stored_windows

_MARK = statement("select_ledger_mark")
_SPEND = statement("select_spend_at_cut")
_OPEN_REPAIR = statement("exists_open_repair")

_POLL_S = 0.05
# The outbox looks for what is due every second.
_REPAIR_POLL_S = 0.5

Counted = Literal["spent", "held", "open"]
# By counter, packed window and scope.
Amounts = dict[tuple[Counted, str, str], int]
_log = structlog.get_logger()


class Difference(NamedTuple):
    """One counter that is not what it must be.

    ``expected`` is what the ledger has booked as spent, or what the open reservations hold; both
    are microcents. ``open`` is the number of them that the limit of concurrency counts.
    """

    budget_id: str
    window_id: str
    found: int
    expected: int
    counter: Counted = "spent"


def amount_text(counter: Counted, amount: int) -> str:
    """Return an amount of a difference as people read it: cents, or a number of reservations."""
    return str(amount) if counter == "open" else cents_from_microcents(amount)


class Comparison(NamedTuple):
    """What came of comparing an org as of a journal id.

    ``is_posted`` is false where the ledger had not posted so far in time: then nothing was
    compared. ``compared`` is how many counters were. ``is_mended`` is true where what differs may
    be what a repair that was asked for has not applied yet.
    """

    org: str
    journal_id: str
    is_posted: bool
    compared: int
    differences: tuple[Difference, ...]
    is_mended: bool = False


class _Cut(NamedTuple):
    """Counters at one instant, the windows to compare, and where the ledger stood before it."""

    inspection: Inspection
    windows: frozenset[str]
    mark_at: datetime
    mark_seq: int


async def compare(clients: Clients, budgets: Bookkeeping, org: str, wait_s: float) -> Comparison:
    """Compare every counter of an org that Redis still keeps with the ledger; change nothing.

    It waits up to ``wait_s`` for the worker. A difference that outlasts it is returned, also
    where its repair was asked for and not applied.

    Raises:
        StoreNotReady: the node marker is missing.
        StoreError: somebody has damaged the org.
    """
    loop = asyncio.get_running_loop()
    end_s = loop.time() + wait_s
    while True:
        cut = await _cut(clients, budgets, org)
        while not await is_posted(clients.redis, cut.inspection.journal_id):
            if loop.time() >= end_s:
                return Comparison(org, cut.inspection.journal_id, False, 0, ())
            await asyncio.sleep(_POLL_S)
        comparison = await _compared(clients, org, cut)
        if not comparison.differences:
            return comparison
        is_mended = await clients.ledger.fetchval(_OPEN_REPAIR, org, cut.mark_at)
        if not is_mended or loop.time() >= end_s:
            return comparison._replace(is_mended=is_mended)
        await asyncio.sleep(_REPAIR_POLL_S)


async def is_posted(redis: RedisClient, journal_id: str) -> bool:
    """Return whether the ledger has every journal entry up to one."""
    if journal_id == "0-0":
        return True
    groups = {group["name"]: group for group in await redis.xinfo_groups(JOURNAL)}
    if JOURNAL_GROUP not in groups:
        return False
    # First what was delivered, then what is pending: the other way round, an entry delivered in
    # between would be taken for posted.
    delivered = groups[JOURNAL_GROUP]["last-delivered-id"]
    if _place(delivered) < _place(journal_id) and await redis.xrange(
        JOURNAL, f"({delivered}", journal_id, count=1
    ):
        return False
    oldest = (await redis.xpending(JOURNAL, JOURNAL_GROUP))["min"]
    return oldest is None or _place(oldest) > _place(journal_id)


async def _cut(clients: Clients, budgets: Bookkeeping, org: str) -> _Cut:
    node = budgets.wire.node
    if node is None:
        raise StoreNotReady("The store has no node marker; run migrate or rebuild.")
    # Before the counters: what is booked of later entries then has a later number.
    (mark,) = await clients.ledger.fetch(_MARK)
    try:
        meta = await clients.redis.hgetall(org_key(org, "meta"))
    except ResponseError as error:
        raise StoreError(f"The meta of {org} cannot be read: {error}.") from error
    seconds, _ = await clients.redis.time()
    stored = [packed_window(w) for w in stored_windows(meta, node.windows, seconds * 1000)]
    kept = kept_windows(node.windows, seconds * 1000)
    looked_at = ",".join(dict.fromkeys([*kept, *stored]))
    inspection = await budgets.inspect(org, looked_at, ("holds", RATE))
    # The counters of a window that has ended leave in time; those of a running one may not.
    windows = frozenset([*stored, *(window for window, _ in inspection.counters)])
    return _Cut(inspection, windows, mark["at"], mark["entry_seq"])


async def _compared(clients: Clients, org: str, cut: _Cut) -> Comparison:
    journal_id = cut.inspection.journal_id
    found, expected = _held(org, cut)
    windows = sorted(cut.windows)
    rows = await clients.ledger.fetch(
        _SPEND,
        org,
        [window.partition(":")[0] for window in windows],
        [window.partition(":")[2] for window in windows],
        *_place(journal_id),
        cut.mark_seq,
    )
    expected |= {("spent", *_counter(row)): row["spent_microcents"] for row in rows}
    for place, counters in cut.inspection.counters.items():
        found["spent", *place] = counters.spent_microcents
    places = sorted(found.keys() | expected.keys())
    differences = tuple(
        Difference(
            f"{org}:{scope}.{'concurrency' if counter == 'open' else window.partition(':')[0]}",
            window.partition(":")[2],
            found.get(place, 0),
            expected.get(place, 0),
            counter,
        )
        for place in places
        for counter, window, scope in [place]
        if found.get(place, 0) != expected.get(place, 0)
    )
    return Comparison(org, journal_id, True, len(places), differences)


def _held(org: str, cut: _Cut) -> tuple[Amounts, Amounts]:
    """Return what is counted as held and open, and what the open holds say."""
    holds, rate = cut.inspection.hashes
    try:
        held, counted = held_by(holds), counted_open(rate)
    except StoreError as error:
        # What such a hold stands for is unknown: it must not be given back.
        _log.error("held_not_compared", org=org, error=str(error))
        return {}, {}
    found: Amounts = {("open", RATE, scope): number for scope, number in counted.items()}
    for place, counters in cut.inspection.counters.items():
        found["held", *place] = counters.held_microcents
    expected: Amounts = {("open", RATE, scope): n for scope, n in open_by(holds).items()}
    for place, microcents in held.items():
        if place[0] in cut.windows:
            expected["held", *place] = microcents
    return found, expected


def _counter(row: asyncpg.Record) -> tuple[str, str]:
    window = f"{row['window']}:{row['window_id']}" if row["window_id"] else row["window"]
    return window, f"agent.{row['agent']}" if row["agent"] else "org"


def _place(journal_id: str) -> tuple[int, int]:
    # Ids compare as numbers: as text 9-0 would come after 10-0.
    milliseconds, _, number = journal_id.partition("-")
    return int(milliseconds), int(number)
