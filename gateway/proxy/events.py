"""Events: server-sent events picked out of a stream, at whatever byte it was cut."""

import re
from collections.abc import Iterator

_LINE_END = re.compile(rb"\r\n|\n|\r")
# An event with usage is small; a longer line is content and is let go.
_LINE_MAX = 256 * 1024


class Events:
    """Reads the data of those events that hold a word, with bounded memory.

    It never fails: bytes that are no event stream have no events.
    """

    def __init__(self, word: bytes) -> None:
        self._word = word
        self._line = b""
        self._is_skipping = False
        self._ended_in_cr = False
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of each event that a chunk completes."""
        if self._ended_in_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        if chunk:
            self._ended_in_cr = chunk.endswith(b"\r")
        *lines, rest = _LINE_END.split(chunk)
        for line in lines:
            line, self._line = self._line + line, b""
            is_skipped, self._is_skipping = self._is_skipping, False
            if not is_skipped:
                yield from self._take(line)
        self._line += rest
        if self._is_skipping or len(self._line) > _LINE_MAX:
            self._line, self._is_skipping = b"", True

    def end(self) -> Iterator[bytes]:
        """Yield the event that the stream broke off in, where its data is complete enough."""
        yield from self._take(self._line)
        yield from self._take(b"")

    def _take(self, line: bytes) -> Iterator[bytes]:
        if not line:
            data = b"\n".join(self._data)
            self._data, self._size = [], 0
            if self._word in data:
                yield data
        elif line.startswith(b"data:"):
            self._size += len(line)
            if self._size <= _LINE_MAX:
                self._data.append(line[5:].removeprefix(b" "))
