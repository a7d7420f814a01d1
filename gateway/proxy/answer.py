"""An upstream's answer, from its head on: read as it comes, no faster than it is wanted."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from gateway.errors import UpstreamBroken

Header = tuple[bytes, bytes]

# What may lie here unread before the connection stops reading.
UNREAD_BYTES_MAX = 64 * 1024


class Source(Protocol):
    """The connection that an answer comes from."""

    def read_on(self) -> None:
        """Go on reading after the answer was full."""

    def expect(self, seconds: float) -> None:
        """Fail the answer when nothing comes in this time."""

    def abort(self) -> None:
        """Close the connection."""


class Answer:
    """Status, headers and body of one answer.

    Header names are in lower case; values, order and duplicates are the upstream's, hop-by-hop
    headers included. ``body`` is the whole body where it came together with the head, else None:
    then ``chunks`` yields it. An answer must be read to its end or closed.
    """

    def __init__(
        self, source: Source, status: int, headers: list[Header], idle_s: float, unread: list[bytes]
    ) -> None:
        self.status = status
        self.headers = headers
        self.body: bytes | None = None
        self._source: Source | None = source
        self._idle_s = idle_s
        self._unread = unread
        self._unread_bytes = sum(map(len, unread))
        self._fault: Exception | None = None
        self._wanted: asyncio.Future[None] | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body, everything that has arrived at a time; trailers are dropped.

        May be called again to go on where the last iteration was left. One task reads at a time.

        Raises:
            UpstreamBroken: the answer broke off.
            UpstreamTimeout: nothing came for ``idle_s``.
        """
        if self.body:
            yield self.body
        while True:
            if self._unread:
                yield self._take()
            elif self._fault is not None:
                raise self._fault
            elif self._source is None:
                return
            else:
                await self._more(self._source)

    def close(self) -> None:
        """Give up what was not read; an unfinished answer costs the connection. May be repeated."""
        source = self._source
        self.fail(UpstreamBroken("The answer was closed before its end."))
        self._unread.clear()
        if source is not None:
            source.abort()

    @property
    def is_full(self) -> bool:
        """Whether the connection should stop reading until ``read_on``."""
        return self._unread_bytes > UNREAD_BYTES_MAX

    def complete(self) -> None:
        """Say that the whole body is here already, before the head was given to anyone."""
        self._source = None
        self.body = b"".join(self._unread)
        self._unread = []

    def push(self, pieces: list[bytes]) -> None:
        """Add what has arrived."""
        self._unread += pieces
        self._unread_bytes += sum(map(len, pieces))
        self._wake()

    def finish(self) -> None:
        """Say that nothing more comes, because this was all."""
        self._source = None
        self._wake()

    def fail(self, fault: Exception) -> None:
        """Say that nothing more comes, although more was to come; what is here can be read."""
        if self._source is not None:
            self._source, self._fault = None, fault
            self._wake()

    def _take(self) -> bytes:
        chunk = self._unread[0] if len(self._unread) == 1 else b"".join(self._unread)
        was_full = self.is_full
        self._unread, self._unread_bytes = [], 0
        if was_full and self._source is not None:
            self._source.read_on()
        return chunk

    async def _more(self, source: Source) -> None:
        self._wanted = asyncio.get_running_loop().create_future()
        source.expect(self._idle_s)
        try:
            await self._wanted
        finally:
            self._wanted = None

    def _wake(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)
