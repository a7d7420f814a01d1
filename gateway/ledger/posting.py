"""Posting: a batch of journal entries booked in one transaction, exactly once.

A reservation has one base row, its settle or its expire, whichever came first. A settle that meets
an expire books the difference as ``late``, once. Anything else that is known books nothing. Where
the ledger changed by another amount than the entry had added to the counters, the same transaction
asks the outbox for a repair. What it had added to counters that a rebuild made again is lost.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import asyncpg

from gateway.ledger.entries import SPENDERS, Entry, read_entry
from gateway.ledger.epochs import hold_epoch
from gateway.ledger.migrations import ensure_partitions
from gateway.ledger.rows import Dead, alert_row, dead_row, repair_row, unread_row, usage_row
from gateway.ledger.sql import statement

_INSERT = statement("insert_usage_entry")
_KNOWN = statement("select_known_entry")
_SPEND = statement("add_spend_window")
_ASK = statement("ask_outbox")
# Two pumps can meet on aggregate rows in spite of the order; Postgres then ends one of them.
_ATTEMPTS = 5
# The kind of the entry that a row was booked from, where it is another.
_JOURNALED = {"late": "settle"}


async def post(pool: asyncpg.Pool, batch: Sequence[tuple[str, Mapping[str, str]]]) -> int:
    """Book a batch of (journal id, fields); a batch booked before is no change.

    It is one transaction, unless Postgres refuses a row: then the batch is halved until that entry
    stands alone and is kept aside. Returns how many entries were kept aside.

    Raises:
        asyncpg.PostgresError: not all of the batch is booked; it must be posted again.
    """
    entries, dead = _read(batch)
    async with pool.acquire() as connection:
        return await _post(connection, entries, dead)


async def _post(
    connection: asyncpg.pool.PoolConnectionProxy, entries: list[Entry], dead: list[Dead]
) -> int:
    try:
        await _transact(connection, entries, dead)
        return len(dead)
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
        if not entries:
            raise
        if len(entries) == 1:
            return await _post(connection, [], [*dead, dead_row(entries[0], error)])
    half = len(entries) // 2
    kept_aside = await _post(connection, entries[:half], dead)
    return kept_aside + await _post(connection, entries[half:], [])


async def _transact(
    connection: asyncpg.pool.PoolConnectionProxy, entries: list[Entry], dead: list[Dead]
) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with connection.transaction():
                await _book(connection, entries, dead)
            return
        except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
            if attempt == _ATTEMPTS:
                raise
        except asyncpg.CheckViolationError as error:
            # Without the name of a constraint it says that no partition holds the month.
            if attempt == _ATTEMPTS or error.constraint_name is not None:
                raise
            await ensure_partitions(connection, [entry.reserved_at for entry in entries])


def _read(
    batch: Sequence[tuple[str, Mapping[str, str]]],
) -> tuple[list[Entry], list[Dead]]:
    entries, dead = [], []
    for journal_id, fields in batch:
        try:
            entries.append(read_entry(journal_id, fields))
        except ValueError as error:
            dead.append(unread_row(journal_id, fields, str(error)))
    return entries, dead


async def _book(
    connection: asyncpg.pool.PoolConnectionProxy,
    entries: list[Entry],
    dead: list[Dead],
) -> None:
    epoch = await hold_epoch(connection)
    began_ms = epoch.began_ms if epoch else 0
    changed = await _book_spend(connection, entries)
    differences = [
        (entry, changed[entry.source] - _counted(entry, began_ms))
        for entry in entries
        if entry.source in changed
    ]
    asked = [repair_row(entry, difference) for entry, difference in differences if difference]
    if asked:
        await connection.execute(_ASK, *map(list, zip(*asked, strict=True)))
    credits = [entry.id for entry in entries if entry.kind == "credit"]
    if credits:
        await connection.execute(
            "UPDATE credit_entry SET state = 'applied', confirmed_at = now() "
            "WHERE id = ANY($1) AND confirmed_at IS NULL",
            credits,
        )
    await connection.executemany(
        "INSERT INTO alert (org, kind, detail, at, source) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (source) DO NOTHING",
        [alert_row(entry) for entry in entries if entry.kind == "alert"],
    )
    await connection.executemany(
        "INSERT INTO dead_entry (source, fields, reason) VALUES ($1, $2, $3) "
        "ON CONFLICT (source) DO NOTHING",
        dead,
    )


def _counted(entry: Entry, began_ms: int) -> int:
    """Return what an entry has added to the counters that are there now."""
    # Counters that a rebuild made are those of the ledger at an instant after it began. An entry
    # from before that is booked now was not in the ledger then, so it is not in the counters.
    is_lost = int(entry.journal_id.partition("-")[0]) < began_ms
    return 0 if is_lost else entry.counted_microcents


async def _book_spend(
    connection: asyncpg.pool.PoolConnectionProxy, entries: list[Entry]
) -> dict[str, int]:
    """Return by source what each entry has changed; a replayed entry is not in it."""
    spenders = sorted(
        (entry for entry in entries if entry.kind in SPENDERS),
        key=lambda entry: (entry.id, entry.reserved_at, entry.kind == "correct"),
    )
    if not spenders:
        return {}
    rows = [usage_row(entry, entry.kind, entry.amount_microcents) for entry in spenders]
    inserted = await _insert(connection, rows)
    changed = {
        entry.source: entry.amount_microcents for entry in spenders if entry.source in inserted
    }
    booked = [(entry, entry.amount_microcents) for entry in spenders if entry.source in changed]
    rest = [entry for entry in spenders if entry.source not in changed]
    if rest:
        late, silent = await _meet(connection, rest)
        booked += late
        changed |= {entry.source: amount for entry, amount in late}
        changed |= dict.fromkeys((entry.source for entry in silent), 0)
    await _add_spend(connection, booked)
    return changed


async def _meet(
    connection: asyncpg.pool.PoolConnectionProxy, rest: list[Entry]
) -> tuple[list[tuple[Entry, int]], list[Entry]]:
    """Return the late rows booked, and the entries that are new but book nothing."""
    known = await _known(connection, rest)
    expired = {
        row["reservation_id"]: row["amount_microcents"] for row in known if row["kind"] == "expire"
    }
    new = _unknown(rest, known)
    meeting = [
        (entry, entry.amount_microcents - expired[entry.id])
        for entry in new
        if entry.kind == "settle" and entry.id in expired
    ]
    inserted = await _insert(
        connection, [usage_row(entry, "late", amount) for entry, amount in meeting]
    )
    late = [(entry, amount) for entry, amount in meeting if entry.source in inserted]
    silent = [entry for entry in new if entry.source not in inserted]
    if len(late) < len(meeting):
        # Another pump booked this very entry after we had looked: then it is a replay.
        silent = _unknown(silent, await _known(connection, silent))
    return late, silent


def _unknown(entries: list[Entry], known: Sequence[asyncpg.Record]) -> list[Entry]:
    """Return the entries that are neither booked nor copies of booked ones under a new journal id.

    Redis ends one reservation once in one instant, so a copy has added nothing to the counters,
    whatever it says: to take that back would widen the budgets.
    """
    sources, facts = set(), set()
    for row in known:
        sources.add(row["source"])
        kind = _JOURNALED.get(row["kind"], row["kind"])
        told = (row["entry_id"], row["at"], row["counted_microcents"])
        facts.add((row["reservation_id"], kind, *told))
    return [
        entry
        for entry in entries
        if entry.source not in sources
        and (entry.id, entry.kind, entry.entry_id, entry.at, entry.counted_microcents) not in facts
    ]


async def _known(
    connection: asyncpg.pool.PoolConnectionProxy, entries: list[Entry]
) -> list[asyncpg.Record]:
    return await connection.fetch(
        _KNOWN, [entry.id for entry in entries], [entry.reserved_at for entry in entries]
    )


async def _insert(
    connection: asyncpg.pool.PoolConnectionProxy, rows: list[tuple[object, ...]]
) -> set[str]:
    if not rows:
        return set()
    columns = [list(column) for column in zip(*rows, strict=True)]
    return {row["source"] for row in await connection.fetch(_INSERT, *columns)}


async def _add_spend(
    connection: asyncpg.pool.PoolConnectionProxy, booked: list[tuple[Entry, int]]
) -> None:
    spent: Counter[tuple[str, str, str, str]] = Counter()
    for entry, amount in booked:
        for kind, window_id in entry.windows:
            spent[entry.org, "", kind, window_id] += amount
            spent[entry.org, entry.agent, kind, window_id] += amount
    if spent:
        rows = [(*key, amount) for key, amount in sorted(spent.items())]
        await connection.execute(_SPEND, *map(list, zip(*rows, strict=True)))
