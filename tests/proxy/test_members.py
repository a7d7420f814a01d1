"""What is read past is judged as strictly as what is read: two readers agree on every text."""

import json
import math
from collections.abc import Callable

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.domain.quote import Wish
from gateway.proxy.members import Members

WISHES = Members(Wish)
NAMES = Wish.__struct_fields__
# What the reference goes down into, counting the object itself.
DEPTH_MAX = 1024
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1

numbers = st.integers() | st.integers(2**63 - 2, 2**64 + 2) | st.floats(allow_nan=False, width=64)
values = st.recursive(
    st.none() | st.booleans() | numbers.filter(lambda number: abs(number) < 10**300) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
members = st.lists(st.tuples(st.sampled_from(NAMES) | st.text(), values), max_size=6)
blanks = st.text(" \t\r\n", max_size=2)
written = rb'" \ \u0061 \ud800 { } [ ] : , - 0 1 . e E999 NaN Infinity null /**/ "model" "n":2,'
pieces = st.sampled_from(
    [
        *written.split(),
        b"\0",
        b"\n",
        b" ",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
    ]
)


@st.composite
def texts(draw: Callable[..., object]) -> bytes:
    """Return the text of an object, names more than once too, before a few bytes of it change."""
    pairs, blank, is_ascii = draw(members), draw(blanks), draw(st.booleans())
    assert isinstance(pairs, list)
    written = (
        f"{json.dumps(name, ensure_ascii=bool(is_ascii))}:{blank}"
        f"{json.dumps(value, ensure_ascii=bool(is_ascii))}"
        for name, value in pairs
    )
    # A lone surrogate has no UTF-8 form; written as bytes it is one of the mistakes.
    return f"{blank}{{{','.join(written)}}}{blank}".encode("utf-8", "surrogatepass")


@st.composite
def changed_texts(draw: Callable[..., object]) -> bytes:
    """Return the text of an object with a few mistakes in it."""
    text = draw(texts())
    changes = draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 2), pieces), max_size=3))
    assert isinstance(text, bytes)
    assert isinstance(changes, list)
    for place, left_out, piece in changes:
        at = place % (len(text) + 1)
        text = text[:at] + piece + text[at + left_out :]
    return text


def wish_by_the_reference(text: bytes) -> Wish | None:
    """Return what orjson, which builds everything, reads."""
    try:
        read = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return Wish(*map(read.get, NAMES)) if isinstance(read, dict) else None


def as_the_reference(value: object) -> object:
    """Return a value as orjson gives it: whole numbers beyond 64 bits become floats."""
    if isinstance(value, dict):
        return {name: as_the_reference(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [as_the_reference(inner) for inner in value]
    if type(value) is int and not _INT64_MIN <= value <= _UINT64_MAX:
        return float(value)
    return value


def has_infinity(text: bytes) -> bool:
    """Say whether a text is JSON with a number that is beyond every double."""
    found: list[float] = []

    def note(number: str) -> float:
        found.append(float(number))
        return found[-1]

    json.loads(text.decode(), parse_float=note, parse_int=note, parse_constant=int)
    return any(map(math.isinf, found))


@given(texts() | changed_texts())
@example(b'{"model":"a","model":"b"}')
@example(b'{"model":"a","mod\\u0065l":"b"}')
@example(b'{"max_tokens":1e3,"n":64.0}')
@example(b'{"max_tokens":18446744073709551616,"n":-9223372036854775809}')
@example(b'{"x":1e400,"model":"m"}')
@example(b'{"x":' + b"9" * 400 + b',"model":"m"}')
def test_two_readers_agree(text: bytes) -> None:
    """The same members are read, or none, out of any text.

    Where the two differ it is the careful way: a whole number beyond 64 bits keeps its digits,
    and with a number that is beyond every double a text still says what is asked for.
    """
    read, expected = WISHES.read(text), wish_by_the_reference(text)

    if read is not None and expected is None:
        assert has_infinity(text)
    else:
        assert (read is None) == (expected is None)
    if read is not None and expected is not None:
        for name in NAMES:
            value, same = as_the_reference(getattr(read, name)), getattr(expected, name)
            assert (type(value), value) == (type(same), same)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"null",
        b"1",
        b'"model"',
        b'[{"model":"m"}]',
        b"\xef\xbb\xbf{}",
        b"{}x",
        b"{} {}",
        b'{"model":"m"',
        b'{"model":"m",}',
        b'{"x":NaN,"model":"m"}',
        b'{"x":-Infinity,"model":"m"}',
        b'{"x":"\xff","model":"m"}',
        b'{"\xff":1,"model":"m"}',
        b'{"x":"\xed\xa0\x80","model":"m"}',
        b'{"x":"\\ud800","model":"m"}',
        b'{"x":"a\nb","model":"m"}',
        b'{"model":"\xff"}',
        b'{"model":1e400}',
        b'{"max_tokens":' + b"9" * 5_000 + b"}",
        b'{"model":"m","x":' + b"[" * 1_000_000,
    ],
    ids=range(22),
)
def test_text_that_is_no_object_has_no_members(text: bytes) -> None:
    """What is not one JSON object in UTF-8 is refused, also for mistakes that nobody asks for."""
    assert WISHES.read(text) is None


@pytest.mark.parametrize("depth", [10, 900, 990, DEPTH_MAX])
def test_deep_text_is_read(depth: int) -> None:
    """A text that is nested deeper than the stack of the interpreter goes is read all the same."""
    inner = b"[" * (depth - 1) + b"]" * (depth - 1)

    assert WISHES.read(b'{"x":%b,"model":"m"}' % inner) == Wish("m")
    assert WISHES.read(b'{"x":%b,"model":"m"]' % inner) is None
    assert WISHES.read(b"[%b]" % inner[1:-1]) is None
