"""Frames: the words of a script call that are the same in each call, packed once.

Why not pack every call as a whole: of the nearly sixty words of a call's two scripts nearly all
are the same as in the call before, and packing all of them took 9 % of a call's instructions. What
is new in a call is filled in by one operation of the interpreter, without a loop.
"""

from collections.abc import Sequence
from typing import cast

import hiredis
from msgspec import Struct

from gateway.budgets.scripts import FORMS, Form, Script

Word = str | bytes | int
# What fills the holes of a frame, in order.
Filling = tuple[bytes | int, ...]


class Hole(Struct, frozen=True, gc=False):
    """A word that each call brings: ``size`` bytes, behind what stands ``before`` in each call.

    Where the size is None a call brings that, too: the size of the whole word, then its bytes.
    """

    size: int | None = None
    before: bytes = b""


class Frame:
    """A call of a script with holes; as it never changes, it may be shared.

    ``forms`` has, for each form of the script, the command as it goes over the wire, which
    ``command % filling`` fills, and the source of the script. A hole must be filled by exactly as
    many bytes as it has: nobody counts them again.
    """

    __slots__ = ("forms", "script")

    def __init__(
        self, script: Script, keys: Sequence[Word | Hole], args: Sequence[Word | Hole]
    ) -> None:
        self.script = script
        words = (len(keys), *keys, *args)
        count = b"*%d\r\n" % (len(words) + 2)
        rest = b"".join(
            _opened(word) if isinstance(word, Hole) else _packed((word,)).replace(b"%", b"%%")
            for word in words
        )
        # Only the hash differs by the form of the script.
        self.forms: dict[Form, tuple[bytes, str]] = {
            form: (count + _packed(("EVALSHA", script[form].sha)) + rest, script[form].text)
            for form in FORMS
        }


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
