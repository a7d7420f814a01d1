"""Replies: what the scripts answer, read into outcomes. Field order: the header of each script."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, cast, get_args

from msgspec import MsgspecError, json

from gateway.budgets.records import read_counters, windows_token
from gateway.domain.budget import Counters
from gateway.domain.reservation import (
    Denied,
    ExtendOutcome,
    Finished,
    Gone,
    Held,
    KeyStatus,
    KeyWord,
    Owner,
    Refusal,
    Refused,
    Released,
    ReleasedWord,
    Replayed,
    ReserveOutcome,
    ResumedWord,
    Settled,
    SettledWord,
    State,
)
from gateway.domain.window import Window, WindowKind
from gateway.errors import OutcomeUnknown

Reply = list[Any]
HELD = b"HELD"
_REFUSALS = frozenset(get_args(Refusal))
_STATES: dict[str, State] = {state: state for state in get_args(State)}
_KEY_WORDS: dict[str, KeyWord] = {word: word for word in get_args(KeyWord)}
_SETTLED: dict[bytes, SettledWord] = {word.encode(): word for word in get_args(SettledWord)}
_RESUMED: dict[bytes, ResumedWord] = {word.encode(): word for word in get_args(ResumedWord)}
_RELEASED: dict[bytes, ReleasedWord] = {word.encode(): word for word in get_args(ReleasedWord)}
# What the scripts answer as text where it is an amount or an instant; int() takes twice as long.
_whole = json.Decoder(int).decode
# What reading an answer raises that is none of the scripts', whatever it is.
UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MsgspecError,
    TypeError,
    ValueError,
)


def unreadable(error: Exception) -> OutcomeUnknown:
    """Return the fault of a call whose answer cannot be read: it may have been applied."""
    return OutcomeUnknown(f"Redis answered what no script says: {error!r}.")


@contextmanager
def reading() -> Iterator[None]:
    """Read an answer in this block; one that cannot be read is OutcomeUnknown."""
    try:
        yield
    except UNREADABLE as error:
        raise unreadable(error) from error


class Inspection(NamedTuple):
    """Counters by packed window and scope, and the last journal id, at one instant.

    ``hashes`` are those that were asked for beside them, in that order.
    """

    journal_id: str
    counters: dict[tuple[str, str], Counters]
    hashes: Sequence[Mapping[str, str]] = ()


def text(value: bytes | int) -> str:
    """Return a field as text; integers arrive as numbers.

    Never an error: what operators wrote may be no UTF-8, and then is read as no word of ours.
    """
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def reserve_outcome(reply: Reply, idem_digest: str) -> ReserveOutcome:
    """Return the outcome of reserve; WINDOW is a refusal whose bounds ``running`` reads."""
    if reply[0] == HELD:
        return held(reply, idem_digest)
    status, fields = text(reply[0]), [text(field) for field in reply[1:-2]]
    if status == "DONE":
        state, quote, cost, reserved_ms, ended_ms, owner, agent = fields
        return Finished(
            _STATES[state],
            int(quote),
            int(cost),
            int(reserved_ms),
            int(ended_ms),
            cast(Owner, owner or "proxy"),
            agent,
        )
    if status == "IDEMPOTENT":
        return Replayed(fields[0], fields[1], _STATES[fields[2]], int(fields[3]))
    return _refusal(status, fields)


def extend_outcome(reply: Reply, idem_digest: str) -> ExtendOutcome:
    """Return what extend has answered: held for longer, refused, or gone."""
    if reply[0] == HELD:
        return held(reply, idem_digest)
    status, fields = text(reply[0]), [text(field) for field in reply[1:-2]]
    return Gone() if status == "GONE" else _refusal(status, fields)


def _refusal(status: str, fields: Sequence[str]) -> Denied | Refused:
    if status == "DENIED" or status == "BUSY":
        budget, *numbers = fields
        limit, credit, spent, held_microcents, ends_ms = map(int, numbers)
        word = cast(Literal["DENIED", "BUSY"], status)
        return Denied(word, budget, limit, credit, spent, held_microcents, ends_ms)
    if status not in _REFUSALS:
        raise AssertionError(f"{status} is not a refusal")
    reason, detail = cast(Refusal, status), fields[0] if fields else ""
    number = int(fields[1]) if status in ("PER_CALL", "CONCURRENCY", "RATE") else 0
    if status == "RATE":
        return Refused(reason, detail, retry_ms=number)
    return Refused(reason, detail, limit=number)


def held(reply: Reply, idem_digest: str) -> Held:
    """Return a hold: the hot answer, so read without a detour."""
    _, deadline_ms, windows, budget, available, ends_ms, warnings, _, _ = reply
    token = windows.decode()
    return Held(
        _whole(deadline_ms),
        windows_token(token, idem_digest) if idem_digest else token,
        budget.decode(),
        _whole(available),
        _whole(ends_ms),
        tuple(warnings.decode().split(",")) if warnings else (),
    )


def running(reply: Reply) -> tuple[str, list[Window], int]:
    """Return zone, stored windows and server time of a WINDOW answer."""
    fields = [text(field) for field in reply[2:-2]]
    windows = [
        Window(cast(WindowKind, kind), window_id, int(start_ms), int(end_ms))
        for kind, window_id, start_ms, end_ms in zip(*[iter(fields)] * 4, strict=True)
        if window_id
    ]
    return text(reply[1]), windows, int(reply[-1])


def settled(reply: Reply) -> Settled:
    """Return the end of a settle."""
    word, cost, over, _, _ = reply
    return Settled(_SETTLED[word], _whole(cost), _whole(over))


def released(reply: Reply) -> Released:
    """Return the end of a release."""
    word, state, cost, _, _ = reply
    return Released(_RELEASED[word], _STATES[text(state)], int(cost))


def resumed(reply: Reply) -> ResumedWord:
    """Return what a hold that was told again has met."""
    with reading():
        word, *fields = reply
        *_, seq, server_ms = fields
        if not isinstance(seq, int) or not isinstance(server_ms, int):
            raise TypeError(f"{reply} ends with no sequence and no time")
        return _RESUMED[word]


def key_status(reply: Reply) -> KeyStatus:
    """Return what authenticate says of a key."""
    status, *fields = (text(field) for field in reply[:-2])
    return KeyStatus(_KEY_WORDS[status], *fields)


def inspection(reply: Reply, windows: Sequence[str]) -> Inspection:
    """Return the counters of ``windows``, in the order they were asked for."""
    hashes, at = list[dict[str, str]](), 2
    while at < len(reply) - 2:
        count = 2 * int(reply[at])
        flat = [text(field) for field in reply[at + 1 : at + 1 + count]]
        hashes.append(dict(zip(flat[::2], flat[1::2], strict=True)))
        at += count + 1
    counters = {
        (window, scope): numbers
        for window, fields in zip(windows, hashes[: len(windows)], strict=True)
        for scope, numbers in read_counters(fields, window).items()
    }
    return Inspection(text(reply[1]), counters, hashes[len(windows) :])
