"""The connection to the budgets: one socket at a time, made anew for as long as it takes.

It connects in the background, loads the scripts in the form the server understands, and looks at
the node marker and the server's clock twice a second, which is the health check too.
"""

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from gateway.budgets.address import Address, tls_context
from gateway.budgets.doubt import Doubt
from gateway.budgets.frames import Word
from gateway.budgets.greeting import greet
from gateway.budgets.keys import NODE
from gateway.budgets.mux import Mux
from gateway.budgets.node import Node, epoch_of, read_node
from gateway.budgets.replies import UNREADABLE, reading
from gateway.budgets.scripts import Form, Script
from gateway.budgets.waiter import Waiter, fail
from gateway.budgets.wire import Line
from gateway.errors import StoreError, StoreUnavailable

CONNECT_TIMEOUT_S = 2.0
LOOK_INTERVAL_S = 0.5
STALE_S = 2.0
_BACKOFF_FIRST_S = 0.05
_BACKOFF_MAX_S = 1.0
# A connection that was lost sooner was no success: without this a server that accepts and
# closes at once would be called without a pause.
_STEADY_S = 1.0
_NO_NODE = (
    f"The node marker {NODE} is missing or not ready: run budget-gateway migrate, "
    "or rebuild where Redis has lost its data."
)


class Connection:
    """What the gateway asks of Redis, through one socket.

    A call never waits for a connection: while there is none it fails at once with
    StoreUnavailable. ``node`` is the marker as it was last seen, ``epoch`` what it says,
    ``admits`` the same node while calls may be admitted, and ``skew_ms`` how far this machine's
    clock was ahead of Redis's then. ``renewed`` is called when the server was started again or has
    another epoch, before anything is admitted there; it may queue calls and must not raise.
    ``future`` makes a waiter that can be awaited. ``line`` takes packed calls, with the errors of
    ``submit``.
    """

    def __init__(
        self,
        address: Address,
        scripts: Sequence[Script],
        deadline_ms: int,
        calls_max: int = 10_000,
    ) -> None:
        self.node: Node | None = None
        self.admits: Node | None = None
        self.epoch = epoch_of(None)
        self.skew_ms: int | None = None
        self._address = address
        self._scripts = scripts
        self._deadline_s = deadline_ms / 1000
        self._calls_max = calls_max
        # Kept, because looking up the running loop asks the kernel for the process id each time.
        self.future: Callable[[], asyncio.Future[Any]] = asyncio.get_running_loop().create_future
        self._mux: Mux | None = None
        self._down = _Down(self)
        self.line: Line = self._down
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self._trouble = "Redis was not connected yet."
        self._looked_s = 0.0
        self._doubt = Doubt(b"")
        self._life: tuple[bytes, str] | None = None
        self.renewed: Callable[[], None] = lambda: None

    @property
    def run_id(self) -> bytes:
        """The run id of the server, which every start of it changes; empty where it is not told."""
        return self._doubt.run_id

    @property
    def connected(self) -> bool:
        """Whether a call would be sent now."""
        return self._mux is not None and not self._mux.refusal

    @property
    def ready(self) -> bool:
        """Whether the node marker stands and was seen within two seconds.

        Where it does not, nothing may be admitted, whatever a script says.
        """
        return not self.problem

    @property
    def problem(self) -> str:
        """Why ``ready`` is false, as a sentence; empty while it is true."""
        if self._mux is None or self._mux.refusal:
            return self._mux.refusal if self._mux else self._trouble
        if not self._trouble and time.monotonic() - self._looked_s > STALE_S:
            return f"Redis did not show {NODE} in {STALE_S:g} s."
        return self._trouble

    @property
    def waiting(self) -> int:
        """How many calls wait for their reply."""
        return len(self._mux.waiting) if self._mux else 0

    async def start(self) -> None:
        """Begin to connect and keep connecting; return at once.

        Raises:
            ConfigError: a TLS file of the address cannot be used.
        """
        tls = tls_context(self._address)
        self._task = asyncio.create_task(self._keep_connected(tls), name="budgets connection")

    async def tried(self) -> bool:
        """Wait until the first attempt to connect has ended; return whether it succeeded."""
        await self._tried.wait()
        return self.connected

    async def close(self) -> None:
        """Wait for the replies of calls that were sent, at most the deadline, and disconnect."""
        mux = self._mux
        self._use(None)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._trouble = "The connection to Redis was closed."
        if mux is not None:
            await mux.drain(self._deadline_s)
            await mux.end(self._trouble)

    def submit(
        self, script: Script, keys: Sequence[str], args: Sequence[Word]
    ) -> "asyncio.Future[list[Any]]":
        """Queue a script call; it leaves at the end of this event-loop turn.

        Strings in the reply are bytes. The future may be ignored. It fails with StoreUnavailable
        (not applied: nothing was sent, or Redis takes no writes now), OutcomeUnknown (sent, but
        not answered within the deadline) or StoreError (an error reply).
        """
        if self._mux is None:
            return self._refused()
        source = script[self._mux.form]
        return self._mux.send(("EVALSHA", source.sha, len(keys), *keys, *args), source.text)

    def command(self, *words: Word) -> "asyncio.Future[Any]":
        """Queue any other command that does not block; otherwise like ``submit``."""
        return self._mux.send(words) if self._mux else self._refused()

    async def look(self) -> Node | None:
        """Read the node marker and the server's clock now; return the marker.

        Raises:
            StoreUnavailable: Redis is away.
        """
        if self._mux is None:
            raise StoreUnavailable(self._trouble)
        await self._look(self._mux)
        return self.node

    def _refused(self) -> "asyncio.Future[Any]":
        future = self.future()
        fail(future, StoreUnavailable(self._trouble))
        return future

    def _use(self, mux: Mux | None) -> None:
        """Send through this one from now on."""
        self._mux = mux
        self.line = self._down if mux is None else mux

    async def _keep_connected(self, tls: ssl.SSLContext | None) -> None:
        failures = 0
        while True:
            began_s = time.monotonic()
            self._use(await self._opened(tls))
            self._notice_life()
            self._tried.set()
            if self._mux is not None:
                self._trouble = await self._watch(self._mux)
                self._use(None)
            failures = failures + 1 if time.monotonic() - began_s < _STEADY_S else 0
            # Jitter, because every gateway lost the same server at the same time.
            delay_s = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2 ** min(failures, 10))
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))

    async def _opened(self, tls: ssl.SSLContext | None) -> Mux | None:
        loop = asyncio.get_running_loop()
        mux = Mux(loop, CONNECT_TIMEOUT_S, self._calls_max)
        opened = False
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if self._address.path:
                    await loop.create_unix_connection(lambda: mux, self._address.path)
                else:
                    host, port = self._address.host, self._address.port
                    await loop.create_connection(lambda: mux, host, port, ssl=tls)
                run_id = await greet(mux, self._address, self._scripts)
                self._doubt = Doubt(run_id)
                await self._look(mux)
            opened = True
        except (OSError, StoreError, ValueError) as error:
            self._trouble = f"Redis at {self._address} cannot be used: {_said(error)}."
        finally:
            if not opened:
                await mux.end(self._trouble)
        mux.set_deadline(self._deadline_s)
        return mux if opened else None

    async def _watch(self, mux: Mux) -> str:
        """Look again and again; return why the mux was lost."""
        while not mux.lost.done():
            await asyncio.wait([mux.lost], timeout=LOOK_INTERVAL_S)
            # The mux knows why Redis is away; whatever the reason, what was seen grows stale.
            with suppress(StoreError):
                await self._look(mux)
        return mux.lost.result()

    async def _look(self, mux: Mux) -> None:
        began_ms = time.time_ns() // 1_000_000
        marker, clock = mux.send(("HGETALL", NODE)), mux.send(("TIME",))
        fields, trouble = dict[bytes, bytes](), ""
        try:
            words = await marker
            fields = dict(zip(words[::2], words[1::2], strict=True))
            node = read_node(fields)
        except StoreUnavailable:
            raise
        except (StoreError, *UNREADABLE) as error:
            node, trouble = None, f"The node marker {NODE} cannot be used: {error}"
        answer = await clock
        ended_ms = time.time_ns() // 1_000_000
        with reading():
            seconds, microseconds = answer
            server_ms = int(seconds) * 1000 + int(microseconds) // 1000
        self.skew_ms = (began_ms + ended_ms) // 2 - server_ms
        self._looked_s = time.monotonic()
        if not trouble:
            trouble = self._doubt.look(fields, self._looked_s) if node else _NO_NODE
        self.node, self._trouble = node, trouble
        self.epoch, self.admits = epoch_of(node), None if trouble else node
        if mux is self._mux:
            self._notice_life()

    def _notice_life(self) -> None:
        """Say so where the server lives another life than it did, before anything is admitted."""
        if self._mux is not None and self.node is not None:
            known, self._life = self._life, (self._doubt.run_id, self.epoch)
            if known is not None and known != self._life:
                self.renewed()


def _said(error: BaseException) -> str:
    """Return what an error says, for the middle of a sentence; some say nothing."""
    return str(error).rstrip(".") or "no answer"


class _Down:
    """What stands in the place of a mux while there is none: it refuses every call."""

    form: Form = 1

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def transmit(self, waiter: Waiter, packed: bytes, source: str | None = None) -> None:
        """Fail the call at once."""
        fail(waiter, StoreUnavailable(self._connection.problem))
