"""Entries: journal fields read into facts that the ledger can book, or refused with a reason."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, cast

import orjson

from gateway.domain.money import AMOUNT_MICROCENTS_MAX

Kind = Literal["settle", "expire", "correct", "credit", "alert"]
SPENDERS = frozenset(("settle", "expire", "correct"))
_KINDS = SPENDERS | {"credit", "alert"}
_ID = re.compile(r"[A-Za-z0-9_-]{1,48}")
_WINDOW = re.compile(r"(hour|day|week|month):([A-Za-z0-9_-]{1,48})|(total)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Instants outside would make partitions without end; a ULID of a sane clock is always inside.
_FIRST_MS, _LAST_MS = 1_577_836_800_000, 4_102_444_800_000


class Entry(NamedTuple):
    """One journal entry. ``windows`` holds (kind, id) pairs; ``detail`` what the proxy metered."""

    journal_id: str
    epoch: str
    kind: Kind
    id: str
    entry_id: str
    org: str
    agent: str
    amount_microcents: int
    counted_microcents: int
    reserved_at: datetime
    at: datetime
    windows: tuple[tuple[str, str], ...]
    detail: dict[str, object]

    @property
    def source(self) -> str:
        """What names this entry for ever: stream ids begin anew with a new epoch."""
        return f"{self.epoch}/{self.journal_id}"


def read_entry(journal_id: str, fields: Mapping[str, str]) -> Entry:
    """Return a journal entry.

    Raises:
        ValueError: a field is missing or malformed; the message names it.
    """
    kind = _word(fields, "kind")
    if fields.get("v") != "1" or kind not in _KINDS:
        raise ValueError(f"v is {fields.get('v')!r} and kind {kind!r}; expected 1 and a known kind")
    amount, counted = _amount(fields, "amount"), _amount(fields, "counted")
    if amount < 0 and kind in ("settle", "expire"):
        raise ValueError(f"amount is {amount}; a {kind} is never negative")
    return Entry(
        journal_id,
        _word(fields, "epoch"),
        cast(Kind, kind),
        _word(fields, "id"),
        _entry_id(fields, kind),
        _word(fields, "org"),
        # The aggregates keep the org under the agent '', so no spender may have that name.
        _word(fields, "agent") if kind in SPENDERS or fields.get("agent") else "",
        amount,
        counted,
        _instant(fields, "reserved_ms"),
        _instant(fields, "at_ms"),
        _windows(fields),
        _detail(fields),
    )


def _word(fields: Mapping[str, str], name: str) -> str:
    text = fields.get(name, "")
    if not _ID.fullmatch(text):
        raise ValueError(f"{name} is {text!r}; expected 1 to 48 letters, digits, _ or -")
    return text


def _entry_id(fields: Mapping[str, str], kind: str) -> str:
    if kind in ("settle", "expire") and fields.get("entry_id"):
        raise ValueError(f"entry_id is {fields['entry_id']!r}; a {kind} has none")
    return _word(fields, "entry_id") if kind == "correct" or fields.get("entry_id") else ""


def _amount(fields: Mapping[str, str], name: str) -> int:
    text = fields.get(name, "")
    if not re.fullmatch(r"-?[0-9]{1,16}", text) or abs(int(text)) > AMOUNT_MICROCENTS_MAX:
        raise ValueError(f"{name} is {text!r}; expected microcents")
    return int(text)


def _instant(fields: Mapping[str, str], name: str) -> datetime:
    text = fields.get(name, "")
    if not re.fullmatch(r"[0-9]{1,14}", text) or not _FIRST_MS <= int(text) < _LAST_MS:
        raise ValueError(f"{name} is {text!r}; expected epoch milliseconds of this century")
    return _EPOCH + timedelta(milliseconds=int(text))


def _windows(fields: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    text = fields.get("windows", "")
    found = [_WINDOW.fullmatch(window) for window in text.split(",")]
    windows = {match[1] or match[3]: match[2] or "" for match in found if match}
    # One of a kind: a repeated one would be counted twice.
    if len(windows) != len(found):
        raise ValueError(f"windows is {text!r}; expected kind:id,...,total")
    return tuple(windows.items())


def _detail(fields: Mapping[str, str]) -> dict[str, object]:
    # The detail explains the money and is not money: one that cannot be read loses itself only.
    try:
        detail = orjson.loads(fields.get("detail") or "{}")
    except orjson.JSONDecodeError:
        return {"unreadable": fields["detail"]}
    return detail if isinstance(detail, dict) else {"unreadable": fields["detail"]}
