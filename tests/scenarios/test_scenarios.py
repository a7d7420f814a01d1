"""Every scenario table is true of the model, of the scripts on fakeredis and on each server."""

from pathlib import Path

import pytest

from tests.lua.store import Store
from tests.model import Books
from tests.scenario import KINDS, play
from tests.scenarios.engine import Engine
from tests.scenarios.redis_books import RedisBooks

TABLES = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parent / "tables").glob("*.txt"))
}


@pytest.mark.parametrize("name", TABLES)
async def test_scenario(store: Store, name: str) -> None:
    """The model and the scripts answer what the table says, and keep the same books."""
    await store.limits({"status": "active"})
    engines: dict[str, Engine] = {
        "the model": Books(KINDS, store.now_ms),
        "the scripts": RedisBooks(store),
    }

    await play(TABLES[name], engines, store.now_ms)
