"""The embedded servers of ``dev`` as one process, which stops them when its parent is gone.

Why a process of its own: both servers run detached, so a ``dev`` that is killed could not take
them with it. This one notices, because the other end of its standard input closes.
"""

import signal
import sys
from pathlib import Path
from typing import NamedTuple

import orjson

from gateway.cli.embedded_postgres import EmbeddedPostgres, postgres_folder
from gateway.cli.embedded_redis import REDIS_OPTIONS, EmbeddedRedis, redis_binary
from gateway.cli.leash import end_with_stdin
from gateway.cli.output import OK, USAGE, complain, say
from gateway.errors import ConfigError
from gateway.proxy.listener import bind


class Stores(NamedTuple):
    """Where both servers listen; printed as one line of JSON when they do."""

    redis_url: str
    redis_port: int
    database_url: str


def read_stores(line: bytes) -> Stores | None:
    """Return what the process printed, or None where it ended without."""
    return Stores(**orjson.loads(line)) if line else None


def main(folder: Path, redis_port: int) -> int:
    """Run both servers until SIGTERM; the Redis port is taken again where it is free."""
    redis = EmbeddedRedis(redis_binary(), folder / "redis", REDIS_OPTIONS, _free(redis_port))
    postgres = EmbeddedPostgres(postgres_folder(), folder / "postgres")
    signal.signal(signal.SIGTERM, _end)
    end_with_stdin()
    try:
        redis.start()
        postgres.start()
        stores = Stores(redis.url, redis.port, postgres.url())
        say(orjson.dumps(stores._asdict()).decode())
        signal.pause()
    except ConfigError as error:
        complain(str(error))
        return USAGE
    except _Ended:
        pass
    finally:
        # Nothing may interrupt the stop: what Redis has not written yet would be lost.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        redis.stop()
        postgres.stop()
    return OK


class _Ended(Exception):
    """The parent is gone or asks to stop."""


def _end(_number: int, _frame: object) -> None:
    raise _Ended


def _free(port: int) -> int:
    try:
        bind("127.0.0.1", port, "The last port of Redis").close()
    except ConfigError:
        return 0
    return port


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
