"""Frames: what Redis is sent is what hiredis would send, whichever words are left open."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.budgets.frames import Hole, Word, filled, framed, pack
from gateway.budgets.scripts import Source

# Much of what a template could take for its own is in it.
TEXT = st.text(st.sampled_from("%bd$\r\nö1") | st.characters(codec="utf-8"))
WORD: st.SearchStrategy[Word] = TEXT | TEXT.map(str.encode) | st.binary() | st.integers()
VALUE = TEXT.map(str.encode) | st.binary(max_size=2000)
SOURCE = Source("the source", "the sha")
# A word that stands in the frame, or what is known of a hole, its value, and whether its size is.
OPEN = st.tuples(VALUE, VALUE, st.booleans())
PLACES = st.lists(WORD | OPEN, max_size=40)
Place = Word | tuple[bytes, bytes, bool]


@given(PLACES, PLACES)
def test_filled_frame_is_the_whole_command(keys: list[Place], args: list[Place]) -> None:
    """Any words and any holes, at every place, make the bytes of the same words packed at once."""
    parts, source = framed(
        SOURCE, [_word(place) for place in keys], [_word(place) for place in args]
    )
    filling = [part for place in (*keys, *args) for part in _filling(place)]
    words = [place[0] + place[1] if isinstance(place, tuple) else place for place in (*keys, *args)]

    assert filled(parts, filling) == pack(("EVALSHA", "the sha", len(keys), *words))
    assert source == "the source"


def test_frame_wants_all_its_holes_filled() -> None:
    """A word too few or too many is a bug that is found before Redis sees it."""
    parts, _ = framed(SOURCE, [Hole(1)], [])

    for filling in ((), (b"a", b"b")):
        with pytest.raises(ValueError, match="attempt to assign"):
            filled(parts, filling)


def _word(place: Place) -> Word | Hole:
    if not isinstance(place, tuple):
        return place
    before, value, is_known = place
    return Hole(len(value) if is_known else None, before)


def _filling(place: Place) -> list[bytes]:
    if not isinstance(place, tuple):
        return []
    before, value, is_known = place
    return [value] if is_known else [b"%d" % (len(before) + len(value)), value]
