"""The command apply: a file is made true, tells what it changed, and is checked before."""

from pathlib import Path

import pytest

from gateway.registry.clients import Clients
from tests.cli.conftest import Run

FILE = """
[orgs.acme.limits]
"org.month.limit_cents" = "5000"
[orgs.acme.agents.researcher]
upstream = "http://agent.test"
price = { mode = "flat", cents = "2" }
headers = { authorization = "Bearer sk-1" }
"""
REST = "What the file does not name stays as it is.\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the file acme.toml in the working folder."""
    return write(tmp_path / "acme.toml", FILE.encode())


def write(file: Path, content: bytes) -> Path:
    """Write a file and return it."""
    file.write_bytes(content)
    return file


async def test_applied_file_is_true(command: Run, clients: Clients, file: Path) -> None:
    """Both stores have what it says, under the name of who applied which file."""
    said = await command("apply", "acme.toml", "--actor", "ada", "--json")

    assert said.code == 0
    assert (said.document["dry_run"], said.document["changed"]) == (False, 3)
    assert [change["place"] for change in said.document["changes"]] == [
        "orgs.acme",
        "orgs.acme.limits.org.month.limit_cents",
        "orgs.acme.agents.researcher",
    ]
    assert await clients.redis.hkeys("bg:{acme}:agents") == ["researcher"]
    rows = await clients.ledger.fetch("SELECT DISTINCT actor, cause FROM limit_change")
    assert [tuple(row) for row in rows] == [("ada", f"apply {file.name}")]


async def test_second_run_says_nothing_to_change(command: Run, file: Path) -> None:
    """And that it removes nothing; a literal secret is told of at each run, never shown."""
    first = await command("apply", str(file))
    second = await command("apply", str(file))

    assert first.out.endswith(f"3 are created or changed. {REST}")
    assert second.out.endswith(f"Nothing to change. {REST}")
    assert "orgs.acme.agents.researcher: headers.authorization is a literal" in second.err
    assert "sk-1" not in first.out + first.err + second.out + second.err


async def test_dry_run_writes_nothing(command: Run, clients: Clients, file: Path) -> None:
    """It tells the same changes as if they were made."""
    dry = await command("apply", str(file), "--dry-run", "--json")
    orgs = await clients.ledger.fetchval("SELECT count(*) FROM org")
    written = await clients.redis.keys("bg:{*")
    wet = await command("apply", str(file), "--json")

    assert (orgs, written) == (0, [])
    assert dry.document["changes"] == wet.document["changes"]
    assert dry.document["dry_run"] is True


async def test_wrong_file_changes_nothing(command: Run, clients: Clients, file: Path) -> None:
    """Exit code 2, every problem on its own line, also those behind the first."""
    write(file, FILE.replace('"5000"', "50.5").replace("flat", "free").encode())

    said = await command("apply", str(file))

    assert (said.code, said.out) == (2, "")
    assert [line.split()[0] for line in said.err.splitlines()] == [
        "orgs.acme.limits.org.month.limit_cents",
        "orgs.acme.agents.researcher.price.mode",
    ]
    assert await clients.redis.keys("bg:{*") == []
    assert await clients.ledger.fetchval("SELECT count(*) FROM org") == 0


async def test_file_that_cannot_be_read_is_named(command: Run, file: Path) -> None:
    """Exit code 2 for one that is not there and for one that is no text."""
    write(file, b"\xff")

    for name in ("acme.toml", "missing.toml"):
        said = await command("apply", name)
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith(f"{name} cannot be read")
