"""Records: what the scripts keep of a hold, of the end of a reservation, and of a window."""

import re
from collections.abc import Mapping
from typing import cast

from gateway.budgets.changes import Request
from gateway.domain.budget import Counters
from gateway.domain.reservation import Owner, State
from gateway.errors import StoreError

# Behind the windows of a hold travels its idempotency digest: settle and release need both keys.
IDEM = ";"
_NUMBER = re.compile(r"[0-9]{1,16}")


def windows_token(windows: str, idem_digest: str) -> str:
    """Return the opaque windows text that ``Held`` carries and settle takes back."""
    return f"{windows}{IDEM}{idem_digest}" if idem_digest else windows


def split_token(token: str) -> tuple[str, str]:
    """Return the packed windows and the idempotency digest, empty for none."""
    windows, _, idem_digest = token.partition(IDEM)
    return windows, idem_digest


def hold_token(record: str) -> str | None:
    """Return the windows token of a hold record, or None where it cannot be read."""
    fields = record.split("|")
    return windows_token(fields[9], fields[8]) if _is_hold(fields) else None


def held_request(record: str) -> Request | None:
    """Return an open reservation, or None where its record cannot be read."""
    fields = record.split("|")
    if not _is_hold(fields):
        return None
    _, amount, owner, agent, _, reserved_ms, deadline_ms, _, idem_digest, windows = fields
    token = windows_token(windows, idem_digest)
    numbers = _numbers(amount, "0", reserved_ms, deadline_ms, "0")
    return numbers and Request("held", cast(Owner, owner), agent, *numbers, token)


def ended_request(record: str) -> Request | None:
    """Return an ended reservation, or None where its record cannot be read."""
    fields = record.split("|")
    if len(fields) != 10 or fields[0] != "1":
        return None
    _, state, quote, actual, _, reserved_ms, end_ms, owner, agent, windows = fields
    numbers = _numbers(quote, actual, reserved_ms, "0", end_ms)
    payer = cast(Owner, owner or "proxy")
    return numbers and Request(cast(State, state), payer, agent, *numbers, windows)


def read_counters(fields: Mapping[str, str], window: str) -> dict[str, Counters]:
    """Return the counters in the spend hash of a window, by scope.

    Raises:
        StoreError: one is no integer, so somebody else has written it.
    """
    scopes = {field.rpartition(".")[0] for field in fields}
    try:
        return {
            scope: Counters(
                *(int(fields.get(f"{scope}.{name}", 0)) for name in ("spent", "held", "credit"))
            )
            for scope in scopes
        }
    except ValueError as error:
        raise StoreError(f"A counter of window {window} is no integer: {error}.") from error


def _numbers(*texts: str) -> tuple[int, int, int, int, int] | None:
    """Return the numbers of a record, or None where one is not written as the scripts do."""
    if not all(_NUMBER.fullmatch(text) for text in texts):
        return None
    return cast(tuple[int, int, int, int, int], tuple(map(int, texts)))


def _is_hold(fields: list[str]) -> bool:
    return len(fields) == 10 and fields[0] == "1"
