"""Rows: what the ledger stores of a journal entry, as the values of its columns."""

import re
from collections.abc import Mapping

import orjson
from asyncpg import PostgresError
from ulid import ULID

from gateway.ledger.entries import Entry

_WINDOWS = ("hour", "day", "week", "month")
_NUL = "\\u0000"
_ESCAPE = re.compile(r"\\(?:u0000|.)")

# Source, fields as JSON, reason: a row of dead_entry.
Dead = tuple[str, str, str]


def usage_row(entry: Entry, kind: str, amount_microcents: int) -> tuple[object, ...]:
    """Return a usage_entry in the order of its statement."""
    detail, windows = entry.detail, dict(entry.windows)
    return (
        entry.id,
        kind,
        entry.entry_id,
        entry.reserved_at,
        entry.org,
        entry.agent,
        amount_microcents,
        entry.counted_microcents,
        *(windows.get(window) for window in _WINDOWS),
        entry.at,
        _word(detail.get("model")),
        *(_count(detail.get(name)) for name in ("input_tokens", "output_tokens", "cached_tokens")),
        _word(detail.get("price_id")),
        _word(detail.get("source")),
        _count(detail.get("status")),
        _count(detail.get("duration_ms")),
        _word(detail.get("key_id")),
        entry.journal_id,
        entry.epoch,
    )


def _word(value: object) -> str | None:
    return _storable(value[:200]) if isinstance(value, str) and value else None


def _storable(text: str) -> str:
    # Postgres text cannot hold NUL, and the name of a model is an upstream's to choose.
    return text.replace("\x00", "")


def _json(value: object) -> str:
    # jsonb cannot hold NUL either. Escapes are taken in pairs, so that a text which merely says
    # backslash u0000 stays whole.
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # What orjson reads it may not write: it nests less deeply.
        text = orjson.dumps({"unreadable": repr(value)}).decode()
    return _ESCAPE.sub(lambda match: "" if match[0] == _NUL else match[0], text)


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 2**31 else None


def repair_row(entry: Entry, difference: int) -> tuple[str, str, str, str]:
    """Return the outbox row that changes every counter of an entry by a difference."""
    changes = [
        (f"{kind}:{window_id}" if window_id else kind, f"{scope}.spent", difference)
        for kind, window_id in entry.windows
        for scope in ("org", f"agent.{entry.agent}")
    ]
    payload = {"id": str(ULID()), "org": entry.org, "changes": changes}
    return "repair", entry.org, _json(payload), f"repair/{entry.source}"


def alert_row(entry: Entry) -> tuple[object, ...]:
    """Return the alert that an entry reports."""
    kind = _word(entry.detail.get("alert")) or "unknown"
    return entry.org, kind, _json(entry.detail), entry.at, entry.source


def unread_row(journal_id: str, fields: Mapping[str, str], reason: str) -> Dead:
    """Return what is kept of fields that could not be read."""
    source = f"{fields.get('epoch', '')}/{journal_id}"
    return _storable(source), _json(dict(fields)), _storable(reason)


def dead_row(entry: Entry, error: PostgresError) -> Dead:
    """Return what is kept of an entry that Postgres refused."""
    return entry.source, _json(entry._asdict()), _storable(str(error))
