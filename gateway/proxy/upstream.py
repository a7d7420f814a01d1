"""Upstreams: pooled keep-alive connections, and what may be asked of them.

Why not a client library: see ``DESIGN.md`` section 8. The data path needs the bytes unchanged,
one write per request, and to know for certain whether a failed call may have run.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable

from gateway.domain.agent import Timeouts
from gateway.errors import UpstreamBroken, UpstreamUnreachable
from gateway.proxy.answer import Answer
from gateway.proxy.answer_head import AnswerHead
from gateway.proxy.known_heads import KnownHeads
from gateway.proxy.origin import Origin, Site, UpstreamHead
from gateway.proxy.request_body import begun, opening, remainder
from gateway.proxy.upstream_connection import UpstreamConnection

# RFC 9110 9.2.2: what may be run twice. POST may not: it costs money.
_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
_STOPPED = "The gateway is stopping."


def _not_asked() -> None:
    """Tell nobody that a request leaves."""


class Upstreams:
    """Every connection to every upstream: one pool per site, made when first asked for.

    A connection is used again last in, first out, so that what is not needed grows idle and is
    closed. At most ``connections_max`` per site exist; who finds none waits in order, as part of
    the time to connect.
    """

    def __init__(
        self,
        connections_max: int = 1000,
        keepalive_s: float = 55.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._connections_max = connections_max
        self._keepalive_s = keepalive_s
        self._tls = tls or _tls_context()
        self._pools: dict[Site, _Pool] = {}
        self._known_heads = KnownHeads[AnswerHead]()
        self._closed = False

    @property
    def idle(self) -> int:
        """How many connections wait for a call."""
        return sum(len(pool.idle) for pool in self._pools.values())

    @property
    def busy(self) -> int:
        """How many connections are being made or carry a call."""
        return sum(len(pool.connections) for pool in self._pools.values()) - self.idle

    @property
    def waiting(self) -> int:
        """How many calls wait for a connection."""
        return sum(len(pool.waiting) for pool in self._pools.values())

    async def send(
        self,
        origin: Origin,
        head: UpstreamHead,
        body: bytes | AsyncIterator[bytes],
        timeouts: Timeouts,
        on_sending: Callable[[], None] = _not_asked,
    ) -> Answer:
        """Send one request and return its answer as soon as the head is there.

        The answer must be read to its end or closed. A body that is an iterator is sent as it
        comes; no connection is taken before its first part is there. What it raises is raised
        here, or by the answer's chunks when the answer has begun.

        A call is never run twice, with one exception: a connection that was used before may be
        closed by the upstream in the very moment in which it is used again. An idempotent request
        is then sent once more; any other is UpstreamBroken.

        ``on_sending`` is called when the first byte leaves: whoever is cancelled before that
        knows that the call did not run.

        Raises:
            UpstreamUnreachable: no connection was made in ``connect_s``: nothing was sent.
            UpstreamBroken: the connection or the answer broke; the call may have run.
            UpstreamTimeout: no head came in ``read_s``; the call may have run.
            BadRequest: the body is not as long as its head says.
        """
        parts = None
        if isinstance(body, bytes):
            text = opening(head, body, is_all=True)
        else:
            first, rest = await begun(body)
            text = opening(head, first, is_all=rest is None)
            parts = remainder(head, first, rest) if rest is not None else None
        pool = self._pools.get(origin.site) or self._new_pool(origin.site)
        connection = pool.take() or await pool.get(timeouts.connect_s)
        on_sending()
        answered = connection.ask(head.method, text, parts, timeouts)
        try:
            return await answered
        except BaseException as fault:
            connection.leave(answered)
            silent = connection.reused and not connection.heard
            if not silent or not isinstance(fault, UpstreamBroken):
                raise
            if parts is not None or head.method not in _IDEMPOTENT:
                raise
            broken = fault
        try:
            pool = self._pools.get(origin.site) or self._new_pool(origin.site)
            connection = await pool.get(timeouts.connect_s)
        except UpstreamUnreachable:
            # Nothing was sent again, but the first one may have run.
            raise broken from None
        answered = connection.ask(head.method, text, None, timeouts)
        try:
            return await answered
        except BaseException:
            connection.leave(answered)
            raise

    async def close(self) -> None:
        """Close every connection; calls that are on fail."""
        self._closed = True
        pools = list(self._pools.values())
        self._pools.clear()
        for pool in pools:
            await pool.close()

    def _new_pool(self, site: Site) -> "_Pool":
        if self._closed:
            raise UpstreamUnreachable(_STOPPED)
        # Pools without a connection are those of agents that were moved or are never called.
        self._pools = {old: pool for old, pool in self._pools.items() if pool.connections}
        tls = self._tls if site.is_tls else None
        pool = self._pools[site] = _Pool(
            site, tls, self._connections_max, self._keepalive_s, self._known_heads
        )
        return pool


class _Pool:
    """The connections to one site. Where calls wait, all connections exist and none is idle."""

    def __init__(
        self,
        site: Site,
        tls: ssl.SSLContext | None,
        connections_max: int,
        keepalive_s: float,
        known_heads: KnownHeads[AnswerHead],
    ) -> None:
        self.connections: set[UpstreamConnection] = set()
        self.idle: list[UpstreamConnection] = []
        self.waiting: deque[asyncio.Future[UpstreamConnection]] = deque()
        self._site = site
        self._tls = tls
        self._connections_max = connections_max
        self._keepalive_s = keepalive_s
        self._known_heads = known_heads
        self._closed = False

    def take(self) -> UpstreamConnection | None:
        """Return an idle connection that is good, if there is one."""
        while self.idle:
            connection = self.idle.pop()
            if connection.is_usable():
                return connection
            connection.abort()
        return None

    async def get(self, connect_s: float) -> UpstreamConnection:
        """Return a new connection, or one that another call gives back where no more may be made.

        Raises:
            UpstreamUnreachable: there was none in time.
        """
        try:
            async with asyncio.timeout(connect_s):
                while True:
                    connection = await self._turn()
                    if not connection.is_made:
                        await self._make(connection)
                        return connection
                    if connection.is_usable():
                        return connection
                    connection.abort()
        except TimeoutError as error:
            reason = f"No connection to {self._site.host} in {connect_s:g} s."
            raise UpstreamUnreachable(reason) from error
        except OSError as error:
            reason = f"{self._site.host} cannot be reached: {error}."
            raise UpstreamUnreachable(reason) from error

    async def close(self) -> None:
        """Close all connections and wait until their sockets are closed."""
        self._closed = True
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_exception(UpstreamUnreachable(_STOPPED))
        closing = [connection for connection in self.connections if connection.is_made]
        for connection in closing:
            connection.fail(UpstreamBroken(_STOPPED))
        for connection in closing:
            await connection.closed.wait()

    async def _turn(self) -> UpstreamConnection:
        """Return a connection of ours: one to be made, or one that was given back."""
        if len(self.connections) < self._connections_max:
            return self._new()
        waiter: asyncio.Future[UpstreamConnection] = asyncio.get_running_loop().create_future()
        self.waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter in self.waiting:
                self.waiting.remove(waiter)
            elif not waiter.cancelled() and waiter.exception() is None:
                # It was given a connection in the moment in which its caller left.
                self._pass_on(waiter.result())
            raise

    async def _make(self, connection: UpstreamConnection) -> None:
        made = False
        try:
            loop = asyncio.get_running_loop()
            host, port, _ = self._site
            await loop.create_connection(lambda: connection, host, port, ssl=self._tls)
            made = not self._closed
        finally:
            if not made:
                connection.abort()
                self._lose(connection)
        if not made:
            raise UpstreamUnreachable(_STOPPED)
        if connection.is_closing:
            raise UpstreamUnreachable("The connection was closed before anything was sent.")

    def _new(self) -> UpstreamConnection:
        connection = UpstreamConnection(
            self._free, self._lose, self._keepalive_s, self._known_heads
        )
        self.connections.add(connection)
        return connection

    def _pass_on(self, connection: UpstreamConnection) -> None:
        if not connection.is_made:
            self._lose(connection)
        elif connection in self.connections:
            self._free(connection)

    def _free(self, connection: UpstreamConnection) -> None:
        if self.waiting and (waiter := self._next_waiter()) is not None:
            waiter.set_result(connection)
        else:
            self.idle.append(connection)

    def _lose(self, connection: UpstreamConnection) -> None:
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(self._new())

    def _next_waiter(self) -> "asyncio.Future[UpstreamConnection] | None":
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                return waiter
        return None


def _tls_context() -> ssl.SSLContext:
    # Authorities are those of the machine; SSL_CERT_FILE adds or replaces them.
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
