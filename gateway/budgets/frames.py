"""Frames: the words of a script call that are the same in each call, packed once.

Why not pack every call as a whole: of the nearly sixty words of a call's two scripts nearly all
are the same as in the call before, and packing all of them took 9 % of a call's instructions. What
is new in a call is joined with what is not, which takes less than to format it in.
"""

from collections.abc import Sequence
from typing import cast

import hiredis
from msgspec import Struct

from gateway.budgets.scripts import Source

Word = str | bytes | int
# A command as it goes over the wire, cut at its holes, and the source of its script. Plain tuples,
# because each call takes them apart.
Frame = tuple[tuple[bytes, ...], str]


class Hole(Struct, frozen=True, gc=False):
    """A word that each call brings: ``size`` bytes, behind what stands ``before`` in each call.

    Where the size is None a call brings that, too: the size of the whole word, then its bytes.
    """

    size: int | None = None
    before: bytes = b""


def framed(source: Source, keys: Sequence[Word | Hole], args: Sequence[Word | Hole]) -> Frame:
    """Return the frame of a call of a script with holes; it may be shared.

    A hole must be filled by exactly as many bytes as it has: nobody counts them again.
    """
    words = ("EVALSHA", source.sha, len(keys), *keys, *args)
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        first, *others = _opened(word) if isinstance(word, Hole) else [_packed((word,))]
        parts[-1] += first
        parts += others
    return tuple(parts), source.text


def filled(parts: Sequence[bytes], filling: Sequence[bytes]) -> bytes:
    """Return the command that the parts of a frame are with their holes filled.

    Raises:
        ValueError: the frame has fewer holes, or more.
    """
    words = [b""] * (2 * len(parts) - 1)
    words[::2] = parts
    words[1::2] = filling
    return b"".join(words)


def pack(words: Sequence[Word]) -> bytes:
    """Return a command as it goes over the wire."""
    # hiredis types the argument as a tuple of one; it takes any number.
    packed: bytes = hiredis.pack_command(cast(tuple[Word], tuple(words)))
    return packed


def _packed(words: Sequence[Word]) -> bytes:
    """Return words one after another, without the count that stands before a command."""
    return pack(words).partition(b"\r\n")[2]


def _opened(hole: Hole) -> list[bytes]:
    """Return what stands around all that is open at the place of a hole."""
    if hole.size is None:
        return [b"$", b"\r\n" + hole.before, b"\r\n"]
    return [b"$%d\r\n%b" % (len(hole.before) + hole.size, hole.before), b"\r\n"]
