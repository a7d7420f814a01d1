"""Frames: what Redis is sent is what hiredis would send, whichever words are left open."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.budgets.frames import HOLE, Frame, Hole, Word, pack
from gateway.budgets.scripts import Script, Source

WORD: st.SearchStrategy[Word] = st.text() | st.binary() | st.integers()
VALUE = st.binary(max_size=2000)
SCRIPT = Script("any", Source("", "one"), Source("", "two"))
# A word, and the value of its hole where it is one.
PLACES = st.lists(st.tuples(WORD, st.none() | VALUE), max_size=40)


@given(PLACES, PLACES)
def test_filled_frame_is_the_whole_command(
    keys: list[tuple[Word, bytes | None]], args: list[tuple[Word, bytes | None]]
) -> None:
    """Any words and any holes, at every place, make the bytes of the same words packed at once."""
    frame = Frame(SCRIPT, _open(keys), _open(args))
    values = [value for _, value in (*keys, *args) if value is not None]
    words = [word if value is None else value for word, value in (*keys, *args)]

    assert frame.packed(1, values) == pack(("EVALSHA", "one", len(keys), *words))
    assert frame.packed(2, values) == pack(("EVALSHA", "two", len(keys), *words))


def _open(places: list[tuple[Word, bytes | None]]) -> list[Word | Hole]:
    return [word if value is None else HOLE for word, value in places]
