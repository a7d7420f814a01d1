"""Listeners: a port with an app, served by uvicorn as a proxy needs it."""

import asyncio
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn

from gateway.errors import ConfigError
from gateway.proxy.caller_connection import CallerConnection

# Longer than the idle connections of pooled clients live, so that the client closes first:
# otherwise a request can meet a connection that is just being closed.
_KEEP_ALIVE_S = 75
# Calls that are still there after the drain get this long to end when they are cancelled.
_CANCEL_S = 1
_BACKLOG = 2048
# What uvicorn logs as an error is our way to break off an answer, or a caller's nonsense.
_EXPECTED = ("ASGI callable returned without completing response.",)


class Listener(uvicorn.Server):
    """One port with one app, in an event loop that it shares with others."""

    def __init__(self, app: Any, bound: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=CallerConnection,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                # An upstream's own Date must not be doubled; answers of ours carry one.
                date_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_CANCEL_S,
            )
        )
        self._bound = bound
        self.port: int = bound.getsockname()[1]

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process: it has more than one listener to stop."""
        yield

    async def run_until_stopped(self) -> None:
        """Serve until ``should_exit`` is set; then close connections and cancel what remains."""
        await self.serve(sockets=[self._bound])


# A listener and the task that runs it.
Listening = tuple[Listener, "asyncio.Task[None]"]


def bind(host: str, port: int, name: str) -> socket.socket:
    """Return a listening socket; port 0 takes any free one.

    Raises:
        ConfigError: the address is taken or not ours; the sentence says which setting.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        # From here on callers wait instead of being turned away until the server runs.
        bound.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        bound.close()
        setting = name.replace("PORT", "HOST") if isinstance(error, socket.gaierror) else name
        raise ConfigError(f"{setting} {host}:{port} cannot be used: {error}.") from error
    bound.setblocking(False)
    return bound


def quiet_server_log() -> None:
    """Keep uvicorn from logging what is expected here; real errors still come through."""
    log = logging.getLogger("uvicorn.error")
    log.setLevel(logging.ERROR)
    log.addFilter(_is_unexpected)


def _is_unexpected(record: logging.LogRecord) -> bool:
    return record.getMessage() not in _EXPECTED


async def stop(listeners: Sequence[Listening]) -> None:
    """Stop listeners and wait until they have ended."""
    for listener, _ in listeners:
        listener.should_exit = True
    await asyncio.gather(*(task for _, task in listeners), return_exceptions=True)
