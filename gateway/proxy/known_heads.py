"""Known heads: who sends one message after another says the same in each, so it is parsed once.

A head is known again by all of its bytes but the digits of its body's length. Nothing here decides
what a request means: llhttp has read the first of them, and equal bytes mean the same.
"""

from typing import Generic, TypeVar

from gateway.proxy.lengths import LENGTHS, length_of

Meaning = TypeVar("Meaning")

# Together a few megabytes; a deployment sees fewer different heads.
_HEADS_MAX = 1024
_HEAD_BYTES_MAX = 2048
# Of a request down to the name of its agent, of an answer its status and what its server says
# first.
_START_BYTES = 48
_LINE_END = b"\r\n"
_END = b"\r\n\r\n"
# As most clients spell it. Heads that spell it otherwise are not learned, as their length would
# stay unknown.
_LENGTHS = (b"\r\ncontent-length: ", b"\r\nContent-Length: ")

# What stands before the digits of the length, and what behind them; all and nothing without one.
_Head = tuple[bytes, bytes]


class KnownHeads(Generic[Meaning]):
    """Heads and what was read in them. Bounded in number and in size: others send them."""

    def __init__(self) -> None:
        self._known: dict[_Head, Meaning] = {}
        # The last head of those that start alike, behind the digits without the end of their line:
        # to compare with it costs a third of a search.
        self._latest: dict[bytes, tuple[bytes, bytes, Meaning]] = {}

    def find(self, data: bytes) -> tuple[Meaning, int, bytes] | None:
        """Return what a head at the begin of ``data`` means, its body's length, what follows it.

        None where the head is not known, or not there as a whole: it must be parsed.
        """
        latest = self._latest.get(data[:_START_BYTES])
        if latest is not None:
            before, behind, meaning = latest
            # Where what stands before them is missing, these are no digits.
            digits, _, others = data.removeprefix(before).partition(_LINE_END)
            rest = others.removeprefix(behind)
            if len(rest) < len(others):
                length = LENGTHS.get(digits)
                if length is None:
                    length = length_of(digits)
                if length is not None:
                    return meaning, length, rest
        return self._search(data)

    def learn(self, data: bytes, meaning: Meaning, lines: int, length: int | None) -> None:
        """Remember the head at the begin of ``data``, which was parsed as this.

        Not where it would be found to have another end, so another number of lines, or another
        length of its body than the parser has found. What ``meaning`` does not say must not be
        said by a head that is learned.
        """
        split = _split(data)
        if split is None or split[1] != length:
            return
        head = split[0]
        if sum(part.count(b"\n") for part in head) != lines + _END.count(b"\n"):
            return
        if len(self._known) >= _HEADS_MAX:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._latest.pop(oldest[0][:_START_BYTES], None)
        self._known[head] = meaning
        self._note(head, meaning)

    def _search(self, data: bytes) -> tuple[Meaning, int, bytes] | None:
        split = _split(data)
        if split is None:
            return None
        head, length, rest = split
        meaning = self._known.get(head)
        if meaning is None:
            return None
        self._note(head, meaning)
        return meaning, length, rest

    def _note(self, head: _Head, meaning: Meaning) -> None:
        """Compare with this head first, where it has a length."""
        before, behind = head
        if behind:
            lines = behind.removeprefix(_LINE_END)
            self._latest[before[:_START_BYTES]] = before, lines, meaning


def _split(data: bytes) -> tuple[_Head, int, bytes] | None:
    """Return a head, the length of its body, and what follows it; None where it says neither."""
    ends = data.find(_END, 0, _HEAD_BYTES_MAX)
    if ends < 0:
        return None
    ends += len(_END)
    text, rest = data[:ends], data[ends:]
    for name in _LENGTHS:
        before, found, stated = text.partition(name)
        if found:
            digits, line_end, others = stated.partition(_LINE_END)
            length = length_of(digits)
            if length is None:
                return None
            return (before + name, line_end + others), length, rest
    return (text, b""), 0, rest
