"""Frames: the words of a script call that are the same in each call, packed once.

Why not pack every call as a whole: of the nearly sixty words of a call's two scripts nearly all
are the same as in the call before, and packing all of them took 9 % of a call's instructions. What
is new in a call is filled in by one operation of the interpreter, without a loop.
"""

from collections.abc import Sequence
from typing import cast

import hiredis
from msgspec import Struct

from gateway.budgets.scripts import Source

Word = str | bytes | int
# A command as it goes over the wire, which ``command % filling`` fills, and the source of its
# script. A plain tuple, because each call takes it apart.
Frame = tuple[bytes, str]
# What fills the holes of a frame, in order.
Filling = tuple[bytes | int, ...]


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
    packed = (
        _opened(word) if isinstance(word, Hole) else _packed((word,)).replace(b"%", b"%%")
        for word in words
    )
    return b"*%d\r\n" % len(words) + b"".join(packed), source.text


def pack(words: Sequence[Word]) -> bytes:
    """Return a command as it goes over the wire."""
    # hiredis types the argument as a tuple of one; it takes any number.
    packed: bytes = hiredis.pack_command(cast(tuple[Word], tuple(words)))
    return packed


def _packed(words: Sequence[Word]) -> bytes:
    """Return words one after another, without the count that stands before a command."""
    return pack(words).partition(b"\r\n")[2]


def _opened(hole: Hole) -> bytes:
    """Return the place of a hole in a template of ``bytes % tuple``."""
    before = hole.before.replace(b"%", b"%%")
    if hole.size is None:
        return b"$%%d\r\n%b%%b\r\n" % before
    return b"$%d\r\n%b%%b\r\n" % (len(hole.before) + hole.size, before)
