"""Frames: what Redis is sent is what hiredis would send, whichever words are left open."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.budgets.frames import HOLE, Frame, Hole, Word, pack

WORD: st.SearchStrategy[Word] = st.text() | st.binary() | st.integers()
VALUE = st.binary(max_size=2000)
# A word, and the value of its hole where it is one.
PLACES = st.lists(st.tuples(WORD, st.none() | VALUE), max_size=40)


@given(PLACES, PLACES)
def test_filled_frame_is_the_whole_command(
    keys: list[tuple[Word, bytes | None]], args: list[tuple[Word, bytes | None]]
) -> None:
    """Any words and any holes, at every place, make the bytes of the same words packed at once."""
    frame = Frame(_open(keys), _open(args))
    values = [value for _, value in (*keys, *args) if value is not None]
    words = [word if value is None else value for word, value in (*keys, *args)]

    whole = pack(("EVALSHA", "sha", len(keys), *words))

    start = b"*%d\r\n$7\r\nEVALSHA\r\n$3\r\nsha\r\n" % frame.count
    assert start + frame.packed(values) == whole
    assert (frame.filled(values), frame.keys) == (words, len(keys))


def _open(places: list[tuple[Word, bytes | None]]) -> list[Word | Hole]:
    return [word if value is None else HOLE for word, value in places]
