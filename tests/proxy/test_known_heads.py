"""Known heads: what came before is not parsed again, and means what it meant.

H1 a head that differs in the digits of its length alone is known again, with its own length
H2 a head that differs in any other byte is another head
H3 what the parser has read otherwise than the memory would is never learned
H4 neither many heads nor large ones stay for ever
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.invocation import Arrival, Target, read_arrival
from gateway.proxy.known_heads import KnownHeads

_LINE = b"POST /agents/researcher/v1/x?q=1 HTTP/1.1\r\n"


def _arrival(length: int | None = 5, *, chunked: bool = False) -> Arrival:
    """Return what is read of a head with this length, or with none."""
    headers = [(b"host", b"a")]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    if chunked:
        headers.append((b"transfer-encoding", b"chunked"))
    arrival = read_arrival(
        {
            "method": "POST",
            "raw_path": b"/agents/researcher/v1/x",
            "query_string": b"q=1",
            "headers": headers,
        }
    )
    assert arrival is not None
    return arrival


@pytest.mark.parametrize("name", [b"content-length", b"Content-Length"])
@pytest.mark.parametrize("is_last", [True, False])
def test_head_is_known_again_with_its_own_length(name: bytes, is_last: bool) -> None:
    """H1: wherever the length stands, and however it is spelled."""
    heads, arrival = KnownHeads[Target](), _arrival()

    def head(digits: bytes) -> bytes:
        lines = [b"host: a\r\n", name + b": " + digits + b"\r\n"]
        return _LINE + b"".join(lines if is_last else reversed(lines)) + b"\r\n"

    heads.learn(head(b"5") + b"hello", arrival.target, 2, arrival.body_length)
    longer = head(b"12345")

    assert heads.find(longer + b"hello") == (arrival.target, 12345, b"hello")


def test_head_without_a_length_has_no_body() -> None:
    """H1: a GET is known too."""
    heads, arrival = KnownHeads[Target](), _arrival(None)
    head = _LINE + b"host: a\r\n\r\n"

    heads.learn(head, arrival.target, 1, arrival.body_length)

    assert heads.find(head) == (arrival.target, 0, b"")


@given(at=st.integers(0, 200), byte=st.integers(0, 255))
def test_head_that_differs_in_a_byte_is_not_known(at: int, byte: int) -> None:
    """H2: whatever byte it is, but for the digits."""
    heads = KnownHeads[Target]()
    head = _LINE + b"host: a\r\ncontent-length: 5\r\nx: y\r\n\r\n"
    heads.learn(head, _arrival().target, 3, 5)
    at %= len(head)
    other = head[:at] + bytes([byte]) + head[at + 1 :]

    is_its_length = at == head.index(b"5") and other[at : at + 1].isdigit()
    assert (heads.find(other) is not None) == (other == head or is_its_length)


def test_heads_that_begin_alike_are_told_apart() -> None:
    """H2: by what stands behind the length, whichever of them came last."""
    heads = KnownHeads[str]()
    head = _LINE + b"host: a\r\ncontent-length: %d\r\nx: %b\r\n\r\n"
    for name in (b"y", b"z"):
        heads.learn(head % (5, name), name.decode(), 3, 5)

    found = [heads.find(head % (length, name)) for length in (5, 77) for name in (b"y", b"z", b"y")]

    assert found[:3] == [("y", 5, b""), ("z", 5, b""), ("y", 5, b"")]
    assert found[3:] == [("y", 77, b""), ("z", 77, b""), ("y", 77, b"")]
    assert heads.find(head % (5, b"q") + head % (5, b"y")) is None


@pytest.mark.parametrize(
    "digits", [b"", b"+5", b"-5", b"0x5", b" 5", b"5 ", b"5,5", b"1" * 16, b"\xd9\xa5"]
)
def test_length_that_is_no_number_is_left_to_the_parser(digits: bytes) -> None:
    """H2: only plain digits may differ."""
    heads = KnownHeads[Target]()
    head = _LINE + b"host: a\r\ncontent-length: %b\r\n\r\n"
    heads.learn(head % b"5", _arrival().target, 2, 5)

    assert heads.find(head % digits) is None


@pytest.mark.parametrize(
    ("head", "arrival", "lines"),
    [
        (b"host: a\r\nCONTENT-LENGTH: 5\r\n\r\n", _arrival(5), 2),
        (b"host: a\r\ncontent-length:5\r\n\r\n", _arrival(5), 2),
        (b"host: a\r\ncontent-length: 6\r\n\r\n", _arrival(5), 2),
        (b"host: a\r\ntransfer-encoding: chunked\r\n\r\n", _arrival(None, chunked=True), 2),
        (b"host: a\r\ncontent-length: 5\r\n\r\n", _arrival(5), 3),
        (b"host: a\r\n content-length: 0\r\n\r\n", _arrival(None), 1),
        (b"host: a\ncontent-length: 0\r\n\r\n", _arrival(None), 1),
        (b"host: a\r\n", _arrival(None), 1),
    ],
)
def test_head_that_was_read_otherwise_is_not_learned(
    head: bytes, arrival: Arrival, lines: int
) -> None:
    """H3: another length, another number of lines, no length, or no end."""
    heads = KnownHeads[Target]()

    heads.learn(_LINE + head, arrival.target, lines, arrival.body_length)

    assert heads.find(_LINE + head) is None


def test_forgotten_head_is_not_compared_either() -> None:
    """H4: also where no other head has begun like it since."""
    heads, arrival = KnownHeads[Target](), _arrival()
    head = (
        b"POST /agents/agent-number-%d/with-a-long-name/v1/x HTTP/1.1\r\ncontent-length: 5\r\n\r\n"
    )
    for number in range(1000, 3000):
        heads.learn(head % number, arrival.target, 1, arrival.body_length)

    assert heads.find(head % 1000) is None
    assert heads.find(head % 2999) is not None


def test_memory_is_bounded() -> None:
    """H4: the oldest are forgotten, and a large head is never remembered."""
    heads, arrival = KnownHeads[Target](), _arrival(None)
    head = _LINE + b"host: %d\r\n\r\n"
    for number in range(2000):
        heads.learn(head % number, arrival.target, 1, arrival.body_length)

    assert heads.find(head % 0) is None
    assert heads.find(head % 1999) is not None

    large = _LINE + b"host: %b\r\n\r\n" % (b"a" * 4096)
    heads.learn(large, arrival.target, 1, arrival.body_length)

    assert heads.find(large) is None
