"""An upstream's answer, from its head on: read as it comes, no faster than it is wanted."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from msgspec import Struct

from gateway.errors import UpstreamBroken
from gateway.proxy.answer_head import AnswerHead

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


class Answer(Struct, eq=False):
    """Head and body of one answer.

    ``body`` is the whole body where it came together with the head, else None: then ``chunks``
    yields it. An answer must be read to its end or closed.
    """

    head: AnswerHead
    body: bytes | None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body, everything that has arrived at a time; trailers are dropped.

        May be called again to go on where the last iteration was left. One task reads at a time.

        Raises:
            UpstreamBroken: the answer broke off.
            UpstreamTimeout: nothing came for as long as two chunks may be apart.
        """
        if self.body:
            yield self.body

    def close(self) -> None:
        """Give up what was not read; an unfinished answer costs the connection. May be repeated."""


class StreamedAnswer(Answer):
    """An answer whose body comes from its source after the head, ``idle_s`` apart at most."""

    source: Source | None
    idle_s: float
    unread: list[bytes] = []
    unread_bytes: int = 0
    fault: Exception | None = None
    wanted: "asyncio.Future[None] | None" = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes from the source."""
        while True:
            if self.unread:
                yield self._take()
            elif self.fault is not None:
                raise self.fault
            elif self.source is None:
                return
            else:
                await self._more(self.source)

    def close(self) -> None:
        """Give up what was not read, and the connection where the answer is not finished."""
        self.unread.clear()
        source = self.source
        if source is not None:
            self.fail(UpstreamBroken("The answer was closed before its end."))
            source.abort()

    @property
    def is_full(self) -> bool:
        """Whether the connection should stop reading until ``read_on``."""
        return self.unread_bytes > UNREAD_BYTES_MAX

    def push(self, pieces: list[bytes]) -> None:
        """Add what has arrived."""
        self.unread += pieces
        self.unread_bytes += sum(map(len, pieces))
        self._wake()

    def finish(self) -> None:
        """Say that nothing more comes, because this was all."""
        self.source = None
        self._wake()

    def fail(self, fault: Exception) -> None:
        """Say that nothing more comes, although more was to come; what is here can be read."""
        if self.source is not None:
            self.source, self.fault = None, fault
            self._wake()

    def _take(self) -> bytes:
        chunk = self.unread[0] if len(self.unread) == 1 else b"".join(self.unread)
        was_full = self.is_full
        self.unread, self.unread_bytes = [], 0
        if was_full and self.source is not None:
            self.source.read_on()
        return chunk

    async def _more(self, source: Source) -> None:
        self.wanted = asyncio.get_running_loop().create_future()
        source.expect(self.idle_s)
        try:
            await self.wanted
        finally:
            self.wanted = None

    def _wake(self) -> None:
        if self.wanted is not None and not self.wanted.done():
            self.wanted.set_result(None)
