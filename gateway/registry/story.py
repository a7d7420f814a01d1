"""The story of one call: what Redis, the journal and the ledger know of a reservation."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import asyncpg

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.changes import Request
from gateway.budgets.keys import JOURNAL
from gateway.budgets.records import split_token
from gateway.domain.key import is_id
from gateway.domain.reservation_id import reserved_ms
from gateway.errors import BadRequest
from gateway.ledger.sql import statement
from gateway.registry.clients import Clients, RedisClient

_ENTRIES = statement("select_usage_entry")
_SPEND = statement("select_spend_window")
_DEAD = statement("select_dead_entry")

# A ULID of this millennium: its first character cannot be greater than 7.
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A gateway's clock may be this far ahead of Redis's, whose ids the journal has.
_SKEW_MS = 300_000
_PAGE = 1_000
# Some seconds of Redis, in steps that hold nobody up.
PAGES_MAX = 500
_KINDS = ("hour", "day", "week", "month")


class JournalEntry(NamedTuple):
    """An entry that is still in the journal; ``has_row`` says whether it booked one."""

    source: str
    has_row: bool
    fields: dict[str, str]


class Counted(NamedTuple):
    """A window that the call counts in, and what the ledger says was spent in it."""

    window: str
    window_id: str
    org_spent_microcents: int
    agent_spent_microcents: int


class Story(NamedTuple):
    """Everything that is known of a reservation.

    ``entries`` are the rows of ``usage_entry``, column by column. ``is_whole`` is false where the
    journal was too long to look through to its end.
    """

    org: str
    id: str
    reserved_at: datetime
    agent: str
    request: Request | None
    journal: tuple[JournalEntry, ...]
    is_whole: bool
    entries: tuple[dict[str, object], ...]
    windows: tuple[Counted, ...]
    dead: tuple[tuple[str, str], ...]

    @property
    def is_known(self) -> bool:
        """Whether anything is."""
        return bool(self.request or self.journal or self.entries or self.dead)

    @property
    def billed_microcents(self) -> int:
        """What the ledger says that the call has cost in all."""
        return sum(int(str(entry["amount_microcents"])) for entry in self.entries)


async def tell_story(
    clients: Clients,
    budgets: Bookkeeping,
    org: str,
    reservation_id: str,
    pages_max: int = PAGES_MAX,
) -> Story:
    """Return what is known of a reservation; ``is_known`` is false where that is nothing.

    At most ``pages_max`` thousand entries of the journal are looked through.

    Raises:
        BadRequest: the org or the id cannot be one.
    """
    if not is_id(org):
        raise BadRequest(f"org is {org!r}; expected 1 to 48 letters, digits, _ or -.")
    if not _ULID.fullmatch(reservation_id):
        raise BadRequest(
            f"id is {reservation_id!r}; expected a Budget-Request-Id: 26 letters and digits."
        )
    first_ms = int(reserved_ms(reservation_id))
    reserved_at = _EPOCH + timedelta(milliseconds=first_ms)
    request = await budgets.request(org, reservation_id)
    # The journal before the ledger: an entry that is posted in between is in both, not in none.
    first = str(max(0, first_ms - _SKEW_MS))
    found, is_whole = await _find(clients.redis, (org, reservation_id), first, pages_max)
    rows = await clients.ledger.fetch(_ENTRIES, reservation_id, reserved_at, org)
    dead = await clients.ledger.fetch(_DEAD, org, reservation_id)
    booking = {str(row["journal"]) for row in rows}
    journal = tuple(
        JournalEntry(source, source in booking, fields)
        for journal_id, fields in found
        for source in [f"{fields.get('epoch', '')}/{journal_id}"]
    )
    agents = [row["agent"] for row in rows] + [fields.get("agent", "") for _, fields in found]
    agent = request.agent if request is not None else next(iter(agents), "")
    windows = _windows(request, [fields for _, fields in found], rows)
    return Story(
        org,
        reservation_id,
        reserved_at,
        agent,
        request,
        journal,
        is_whole,
        tuple(dict(row) for row in rows),
        await _counted(clients.ledger, (org, agent), windows),
        tuple((row["source"], row["reason"]) for row in dead),
    )


async def _find(
    redis: RedisClient, reservation: tuple[str, str], after: str, pages_max: int
) -> tuple[list[tuple[str, dict[str, str]]], bool]:
    found = list[tuple[str, dict[str, str]]]()
    for _ in range(pages_max):
        page = await redis.xrange(JOURNAL, after, "+", count=_PAGE)
        found += [
            (journal_id, fields)
            for journal_id, fields in page
            if (fields.get("org"), fields.get("id")) == reservation
        ]
        if len(page) < _PAGE:
            return found, True
        after = f"({page[-1][0]}"
    return found, False


def _windows(
    request: Request | None, journal: Sequence[dict[str, str]], rows: Sequence[asyncpg.Record]
) -> list[tuple[str, str]]:
    named = [split_token(request.windows)[0]] if request is not None else []
    named += [fields.get("windows", "") for fields in journal]
    packed = [window for text in named for window in text.split(",") if window]
    packed += [
        f"{kind}:{row[f'{kind}_id']}" for row in rows for kind in _KINDS if row[f"{kind}_id"]
    ]
    # A row does not say whether it counted in total; where nothing did, there is no aggregate.
    packed += ["total"] if rows else []
    return [
        (kind, window_id)
        for window in dict.fromkeys(packed)
        for kind, _, window_id in [window.partition(":")]
    ]


async def _counted(
    pool: asyncpg.Pool, payer: tuple[str, str], windows: list[tuple[str, str]]
) -> tuple[Counted, ...]:
    org, agent = payer
    kinds, ids = [kind for kind, _ in windows], [window_id for _, window_id in windows]
    rows = await pool.fetch(_SPEND, org, agent, kinds, ids)
    spent = {
        (row["agent"], row["window"], row["window_id"]): row["spent_microcents"] for row in rows
    }
    return tuple(
        Counted(*window, spent.get(("", *window), 0), spent.get((agent, *window), 0))
        for window in windows
    )
