"""A server that answers anything at all: no call hangs, none hears an outcome nobody told.

G1 whatever bytes answer a call, it ends: as StoreError, or in the words of a whole reply
G2 the connection comes back as soon as the server is sound
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import hiredis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.budgets.address import read_address
from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.changes import Settlement
from gateway.budgets.connection import Connection
from gateway.budgets.replies import resumed
from gateway.budgets.scripts import load_scripts
from gateway.domain.reservation import Ask, Held
from gateway.errors import StoreError
from tests.budgets.stub_redis import healthy, packed, stub_redis
from tests.fuzzing import examples
from tests.until import until

ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
ASK = Ask(ID, "acme", "researcher", 5, hashlib.sha256(b"k").hexdigest())
SETTLEMENT = Settlement("acme", "researcher", ID, "day:2026-11-22,total", 5, b"{}")
SOUND = b"*5\r\n$7\r\nSETTLED\r\n$1\r\n5\r\n$1\r\n0\r\n:1\r\n:1\r\n"
SCRIPTS = load_scripts()
Call = Callable[[Bookkeeping], Awaitable[Any]]


async def _settle(budgets: Bookkeeping) -> Any:
    return await budgets.settle(SETTLEMENT)


async def _resume(budgets: Bookkeeping) -> Any:
    return resumed(await budgets.begin_resume(ASK, SETTLEMENT.windows, "k1"))


CALLS: dict[str, Call] = {
    "reserve": lambda budgets: budgets.reserve(ASK),
    "settle": _settle,
    "release": lambda budgets: budgets.release("acme", "researcher", ID, SETTLEMENT.windows),
    "resume": _resume,
    "extend": lambda budgets: budgets.extend(ASK, SETTLEMENT.windows),
    "authenticate": lambda budgets: budgets.authenticate("acme", ASK.key_digest),
    "inspect": lambda budgets: budgets.inspect("acme", "total"),
    "expire": lambda budgets: budgets.expire("acme", "total", [ID]),
}
_STATUSES = ["HELD", "WINDOW", "WINDOWS", "DONE", "DENIED", "BUSY", "RATE", "IDEMPOTENT", "FROZEN"]
_STATUSES += [
    "LIMITS_INVALID",
    "SETTLED",
    "LATE",
    "RELEASED",
    "VOID",
    "GONE",
    "OK",
    "COLD",
    "BADARG",
    "RESUMED",
]
_WORDS = [*_STATUSES, "EXPIRED", "held", "settled", "org.month", "5", "-1", "nan", "9" * 20]
_NUMBERS = st.integers(-(2**63), 2**63 - 1)
_LEAVES = st.one_of(
    st.sampled_from(_WORDS).map(lambda word: b"$%d\r\n%s\r\n" % (len(word), word.encode())),
    st.binary(max_size=8).map(lambda text: b"$%d\r\n%s\r\n" % (len(text), text)),
    _NUMBERS.map(lambda number: b":%d\r\n" % number),
    st.sampled_from([b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"#t\r\n", b",inf\r\n", b"-ERR x\r\n"]),
    st.sampled_from([b"+OK\r\n", b"-OOM x\r\n", b"(99999999999999999999\r\n", b"=5\r\ntxt:a\r\n"]),
)


def _listed(marks: bytes) -> Callable[[list[bytes]], bytes]:
    return lambda parts: b"%b%d\r\n" % (marks, len(parts)) + b"".join(parts)


_VALUES = st.recursive(
    _LEAVES,
    lambda parts: st.one_of(
        st.lists(parts, max_size=9).map(_listed(b"*")),
        st.lists(parts, max_size=3).map(_listed(b"~")),
        st.lists(parts, max_size=3).map(_listed(b">")),
        st.tuples(parts, parts).map(lambda pair: b"%1\r\n" + pair[0] + pair[1]),
    ),
    max_leaves=12,
)
# A status word and then what no script says behind it.
_ANSWERS = st.tuples(st.sampled_from(_STATUSES), st.lists(_LEAVES, max_size=9)).map(
    lambda answer: (
        b"*%d\r\n" % (len(answer[1]) + 1)
        + b"$%d\r\n%s\r\n" % (len(answer[0]), answer[0].encode())
        + b"".join(answer[1])
    )
)
_CUT = st.integers(0, len(SOUND)).map(lambda size: SOUND[:size])
GARBAGE = st.one_of(_ANSWERS, _VALUES, st.tuples(_VALUES, _VALUES).map(b"".join), _CUT)
_ANY = st.one_of(GARBAGE, st.binary(max_size=40))


def _word(garbage: bytes) -> object:
    """Return the status word of the one reply that these bytes begin with, None for no such."""
    reader = hiredis.Reader()
    reader.feed(garbage)
    try:
        reply = reader.gets()
    except (hiredis.ProtocolError, TypeError, ValueError):
        return None
    return reply[0] if isinstance(reply, list) and reply else None


def _is_told(outcome: Any, word: object) -> bool:
    """Say whether an outcome is what a reply with that word says."""
    if isinstance(outcome, list):
        return word == b"EXPIRED"
    if isinstance(outcome, str):
        return word == outcome.encode()
    if hasattr(outcome, "journal_id"):
        return True
    name = "HELD" if isinstance(outcome, Held) else getattr(outcome, "status", None)
    names = {"Finished": "DONE", "Replayed": "IDEMPOTENT", "Gone": "GONE"}
    name = name or getattr(outcome, "reason", None) or names.get(type(outcome).__name__)
    return isinstance(name, str) and word == name.encode()


async def _settles(budgets: Bookkeeping) -> bool:
    """Settle; say whether a sound server has answered, which may be a connection later."""
    try:
        return (await budgets.settle(SETTLEMENT)).cost_microcents == 5
    except StoreError:
        return False


async def _connected(url: str) -> tuple[Connection, Bookkeeping]:
    connection = Connection(read_address(url), SCRIPTS, deadline_ms=2_000)
    await connection.start()
    await connection.tried()
    return connection, Bookkeeping(connection, SCRIPTS, 60_000, 1_000)


@examples(60)
@given(verb=st.sampled_from(sorted(CALLS)), garbage=_ANY)
@example("settle", b":5\r\n")
@example("settle", packed("WINDOWS", "total", "", 1, 1))
@example("release", packed("WINDOWS", "total", "", 1, 1))
@example("extend", packed("WINDOWS", "total", "", 1, 1))
@example("reserve", packed("SETTLED", 1, 2, 3, 4))
@example("reserve", b"~1\r\n*1\r\n:1\r\n")
async def test_call_ends_whatever_is_answered(verb: str, garbage: bytes) -> None:
    """G1 G2: it is told StoreError or what was really said; the next call on a sound server ends.

    The server closes behind its garbage, unless that is whole: then it stays for the next call.
    """
    is_whole = _word(garbage) is not None
    spoken = 0

    def garbled(command: list[bytes]) -> bytes | None:
        nonlocal spoken
        if command[0] not in (b"EVALSHA", b"EVAL"):
            return healthy(command) if is_whole or not spoken else None
        spoken += 1
        return garbage

    async with stub_redis() as stub:
        connection, budgets = await _connected(stub.url)
        stub.answer = garbled
        call = asyncio.ensure_future(CALLS[verb](budgets))
        await until(lambda: spoken or call.done(), "the call to be sent")
        connection.command("PING")
        (outcome,) = await asyncio.wait_for(asyncio.gather(call, return_exceptions=True), 20)
        stub.answer = lambda command: SOUND if command[0] == b"EVALSHA" else healthy(command)
        await until(lambda: _settles(budgets), "the connection to come back")
        await connection.close()

    assert isinstance(outcome, StoreError) or _is_told(outcome, _word(garbage)), outcome


@examples(30)
@given(command=st.sampled_from([b"CLIENT", b"ROLE", b"SCRIPT", b"HGETALL", b"TIME"]), garbage=_ANY)
@example(b"HGETALL", b":5\r\n")
@example(b"TIME", b"$-1\r\n")
@example(b"ROLE", b"#t\r\n")
async def test_greeting_may_be_garbled(command: bytes, garbage: bytes) -> None:
    """G2: a server that is not sound at first is used once it is, without a restart."""
    bad = garbage if _word(garbage) is not None else None

    async with stub_redis() as stub:
        stub.answer = lambda words: bad if words[0] == command else healthy(words)
        connection, budgets = await _connected(stub.url)
        stub.answer = lambda words: SOUND if words[0] == b"EVALSHA" else healthy(words)
        await until(lambda: _settles(budgets), "the connection to come back")
        await connection.close()


@pytest.mark.parametrize("command", [b"HGETALL", b"TIME"])
@pytest.mark.parametrize("garbage", [b":5\r\n", b"*1\r\n$1\r\nx\r\n", b"*2\r\n:x\r\n", b"$-1\r\n"])
async def test_look_may_be_garbled(command: bytes, garbage: bytes) -> None:
    """G2: a look that hears nonsense is not the last one."""
    looks = 0

    def garbled(words: list[bytes]) -> bytes | None:
        nonlocal looks
        looks += words[0] == command
        return garbage if words[0] == command else healthy(words)

    async with stub_redis() as stub:
        connection, _ = await _connected(stub.url)
        stub.answer = garbled
        await until(lambda: looks, "a look")
        stub.answer = healthy
        seen = len(stub.commands)
        await until(lambda: connection.ready and len(stub.commands) > seen, "the next look")
        await connection.close()
