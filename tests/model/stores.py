"""Stores: where a walk is played, all over one kind of batch: commands in, replies out.

``FakeStore`` is fakeredis with a clock that the walk moves, so that every key leaves when the
contract says. ``ServerStore`` is a real server: its keys live by the wall clock, so the walk
deletes what would have left, and the time to live is compared as it was set.
"""

import socket
import time
from collections.abc import Sequence
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import fakeredis
import hiredis

Command = Sequence[str | bytes | int]
CLOCK_KEY = "test:now"
# How much later than the write the time to live may be looked at on a real server.
_READ_LATER_MS = 300_000


class Store(Protocol):
    """What a walk is played on."""

    is_flagged: bool
    has_own_clock: bool

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands one after the other; an error is a reply."""

    def lasts(self, left_ms: int, now_ms: int, at_ms: int, ttl_ms: int) -> bool:
        """Say whether what is left of a key's life is what the model keeps it for."""

    def close(self) -> None:
        """Let go of the store."""


class _Compiled:
    """A Lua runtime for fakeredis that compiles a script once and never stops for garbage.

    It says of no script that it set a global: the tests of the scripts do, on the runtime itself.
    """

    def __init__(self, server: fakeredis.FakeServer) -> None:
        own = vars(server)
        self._runtime = own["_lua_runtime"]
        self._functions: dict[bytes | str, Any] = {"collectgarbage()": lambda: None}
        self.table_from = self._runtime.table_from
        own["_lua_runtime"] = self
        own["_lua_expected_globals"] = set[Any]()
        sockets = own["_lua_current_socket"]

        def call(op: bytes, *args: Any) -> Any:
            return sockets[0]._lua_redis_call(self, set[Any](), op, *args)

        self._runtime.globals()[b"redis"][b"call"] = call

    def execute(self, script: bytes | str) -> Any:
        """Run a script."""
        function = self._functions.get(script)
        if function is None:
            function = self._functions[script] = self._runtime.compile(script)
        return function()

    def globals(self) -> dict[str, Any]:
        """Return nothing."""
        return {}


def _clocked(database: Any) -> Any:
    """Let a database of fakeredis keep its own time, in place of that of each command."""
    time_s = property(lambda self: self.now_s, lambda self, _: None)
    return type("Clocked", (type(database),), {"now_s": 0.0, "time": time_s})


class FakeStore:
    """fakeredis, at the instant of the walk."""

    is_flagged = False
    has_own_clock = False

    def __init__(self) -> None:
        server = fakeredis.FakeServer()
        self._client = cast(Any, fakeredis.FakeRedis(server=server, protocol=2))
        self._client.execute_command("EVAL", "return 1", 0)
        _Compiled(server)
        self._database: Any = server.dbs[0]
        self._database.__class__ = _clocked(self._database)
        # Past the client and its queue, which take as long as a command does.
        self._connection = self._client.connection_pool.get_connection()
        self._socket = self._connection._sock
        self._replies: list[Any] = []
        self._socket.put_response = self._replies.append

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands one after the other; an error is a reply."""
        for command in commands:
            if command[:2] == ("SET", CLOCK_KEY):
                self._database.now_s = int(command[2]) / 1000
            words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
            self._socket._process_command(words)
        replies = self._replies[:]
        self._replies.clear()
        return replies

    def lasts(self, left_ms: int, now_ms: int, at_ms: int, ttl_ms: int) -> bool:
        """Say whether what is left of a key's life ends at an instant."""
        return left_ms == at_ms - now_ms

    def close(self) -> None:
        """Close the client."""
        self._client.close()


class ServerStore:
    """A real server, over one socket; each walk has a database of its own."""

    has_own_clock = True

    def __init__(self, url: str, database: int, is_flagged: bool) -> None:
        self.is_flagged = is_flagged
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname, address.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()
        self.run([("SELECT", database)])

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands at once and read every reply; an error is a reply."""
        self._socket.sendall(
            b"".join(hiredis.pack_command(cast(Any, tuple(command))) for command in commands)
        )
        return [self._read() for _ in commands]

    def _read(self) -> Any:
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("The server closed the connection.")
            self._reader.feed(data)
        return reply

    def lasts(self, left_ms: int, now_ms: int, at_ms: int, ttl_ms: int) -> bool:
        """Say whether what is left of a key's life is what was set a moment ago."""
        if ttl_ms == 0:
            return abs(time.time_ns() // 1_000_000 + left_ms - at_ms) < _READ_LATER_MS
        return ttl_ms - _READ_LATER_MS < left_ms <= ttl_ms

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
