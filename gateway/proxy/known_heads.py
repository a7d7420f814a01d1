"""Known heads: who sends one message after another says the same in each, so it is parsed once.

A head is known again by all of its bytes but the digits of its body's length. Nothing here decides
what a request means: llhttp has read the first of them, and equal bytes mean the same.
"""

from typing import Generic, TypeVar

Meaning = TypeVar("Meaning")

# Together a few megabytes; a deployment sees fewer different heads.
_HEADS_MAX = 1024
_HEAD_BYTES_MAX = 2048
_LENGTH_DIGITS_MAX = 15
_END = b"\r\n\r\n"
# As most clients spell it. Heads that spell it otherwise are not learned, as their length would
# stay unknown.
_LENGTHS = (b"\r\ncontent-length: ", b"\r\nContent-Length: ")


class KnownHeads(Generic[Meaning]):
    """Heads and what was read in them. Bounded in number and in size: others send them."""

    def __init__(self) -> None:
        self._known: dict[bytes, Meaning] = {}

    def find(self, data: bytes) -> tuple[Meaning, int, int] | None:
        """Return what a head at the begin of ``data`` means, and where it and its body end.

        None where the head is not known, or not there as a whole: it must be parsed.
        """
        found = _split(data)
        if found is None:
            return None
        head, ends, length = found
        meaning = self._known.get(head)
        return None if meaning is None else (meaning, ends, ends + length)

    def learn(self, data: bytes, meaning: Meaning, lines: int, length: int | None) -> None:
        """Remember the head at the begin of ``data``, which was parsed as this.

        Not where it would be found to have another end, so another number of lines, or another
        length of its body than the parser has found. What ``meaning`` does not say must not be
        said by a head that is learned.
        """
        found = _split(data)
        if found is None or found[2] != length or found[0].count(b"\n") != lines:
            return
        if len(self._known) >= _HEADS_MAX:
            del self._known[next(iter(self._known))]
        self._known[found[0]] = meaning


def _split(data: bytes) -> tuple[bytes, int, int] | None:
    """Return a head without the digits of its length, where it ends, and the length."""
    end = data.find(_END, 0, _HEAD_BYTES_MAX)
    if end < 0:
        return None
    at = data.find(_LENGTHS[0], 0, end)
    if at < 0 and (at := data.find(_LENGTHS[1], 0, end)) < 0:
        return data[:end], end + 4, 0
    begins = at + len(_LENGTHS[0])
    ends = data.find(b"\r", begins)
    digits = data[begins:ends]
    if not digits.isdigit() or len(digits) > _LENGTH_DIGITS_MAX:
        return None
    return data[:begins] + data[ends:end], end + 4, int(digits)
