"""Known heads: a client says the same in each of its calls, so its head is parsed once.

A head is known again by all of its bytes but the digits of its body's length. Nothing here decides
what a request means: llhttp has read the first of them, and equal bytes mean the same.
"""

from gateway.proxy.invocation import Arrival, Target

# Together a few megabytes; the clients of a deployment send fewer different heads.
_HEADS_MAX = 1024
_HEAD_BYTES_MAX = 2048
_LENGTH_DIGITS_MAX = 15
_END = b"\r\n\r\n"
# As most clients spell it. Heads that spell it otherwise are not learned, as their length would
# stay unknown.
_LENGTHS = (b"\r\ncontent-length: ", b"\r\nContent-Length: ")


class KnownHeads:
    """The heads of one port. Bounded in number and in size, because they come from callers."""

    def __init__(self) -> None:
        self._targets: dict[bytes, Target] = {}

    def find(self, data: bytes) -> tuple[Target, int, int] | None:
        """Return what a head at the begin of ``data`` asks for, where it and its body end.

        None where the head is not known, or not there as a whole: it must be parsed.
        """
        found = _split(data)
        target = self._targets.get(found[0]) if found is not None else None
        return (target, found[1], found[1] + found[2]) if found and target else None

    def learn(self, data: bytes, arrival: Arrival, lines: int) -> None:
        """Remember the head at the begin of ``data``, which was parsed as this and so many lines.

        Not where its end or its length would be found elsewhere than the parser has found them.
        """
        found = _split(data)
        if found is None or found[2] != arrival.body_length:
            return
        if found[0].count(b"\n") != lines:
            return
        if len(self._targets) >= _HEADS_MAX:
            self._targets.clear()
        self._targets[found[0]] = arrival.target


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
