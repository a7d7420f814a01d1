"""Reserve and settle in two forms: our scripts, and the floor that any script of the kind needs."""

import asyncio
import hashlib
import time
from pathlib import Path
from typing import Any, Protocol

from bench.answers import COST_MICROCENTS, INPUT_TOKENS, MODEL, OUTPUT_TOKENS
from bench.org import KEY_DIGEST, ORG
from gateway.budgets.changes import Settlement
from gateway.budgets.connection import Connection
from gateway.budgets.proposals import Proposals
from gateway.budgets.scripts import Script, Source
from gateway.budgets.verbs import Budgets
from gateway.domain.reservation import Ask

FLOOR = Path(__file__).parent / "floor"
FLOOR_ORG = "floor"
QUOTE_MICROCENTS = 2 * COST_MICROCENTS
_TTL_MS = 60_000
_DETAIL = (
    f'{{"model":"{MODEL}","input_tokens":{INPUT_TOKENS},"output_tokens":{OUTPUT_TOKENS},'
    '"cached_tokens":0,"price_id":"openai/gpt-4o-mini","source":"tokens","status":200,'
    '"duration_ms":4,"key_id":"k1"}'
).encode()


class Verbs(Protocol):
    """Both scripts of one form; each call is queued and leaves with the others of its turn."""

    name: str

    def reserve(self, id: str, agent: str) -> "asyncio.Future[list[Any]]":
        """Queue one reserve."""

    def settle(self, id: str, agent: str) -> "asyncio.Future[list[Any]]":
        """Queue the settle of that reserve."""


class Ours:
    """The scripts of the gateway, with the arguments that the gateway gives them."""

    name = "ours"

    def __init__(self, connection: Connection, budgets: Budgets) -> None:
        self._connection = connection
        self._budgets = budgets
        self._proposal = budgets.propose(ORG, _now_ms())

    def reserve(self, id: str, agent: str) -> "asyncio.Future[list[Any]]":
        """Queue one reserve."""
        ask = Ask(id, ORG, agent, QUOTE_MICROCENTS, KEY_DIGEST)
        return self._budgets.submit_reserve(ask, self._proposal)

    def settle(self, id: str, agent: str) -> "asyncio.Future[Any]":
        """Queue the settle of that reserve."""
        windows = self._proposal.packed
        return self._budgets.settle(Settlement(ORG, agent, id, windows, COST_MICROCENTS, _DETAIL))


class Floor:
    """The least that such scripts must do; see ``bench/floor``."""

    name = "floor"

    def __init__(self, connection: Connection, reserve: Script, settle: Script) -> None:
        self._connection = connection
        self._scripts = (reserve, settle)
        proposal = Proposals(("day", "month", "total")).current(FLOOR_ORG, _now_ms())
        bounds = [(window.start_ms, window.end_ms) for window in proposal.windows[:2]]
        self._bounds = [str(bound) for pair in bounds for bound in pair]
        self._spend = proposal.keys

    def reserve(self, id: str, agent: str) -> "asyncio.Future[list[Any]]":
        """Queue one reserve."""
        limits, meta, holds, expiry, done = map(
            _key, ("limits", "meta", "holds", "expiry", f"done:{id}")
        )
        return self._connection.submit(
            self._scripts[0],
            (limits, meta, *self._spend, holds, expiry, done),
            (id, QUOTE_MICROCENTS, _TTL_MS, agent, *self._bounds),
        )

    def settle(self, id: str, agent: str) -> "asyncio.Future[list[Any]]":
        """Queue the settle of that reserve."""
        meta, holds, expiry, done, journal = map(
            _key, ("meta", "holds", "expiry", f"done:{id}", "journal")
        )
        return self._connection.submit(
            self._scripts[1],
            (meta, *self._spend, holds, expiry, done, journal),
            (id, COST_MICROCENTS, agent, _DETAIL),
        )


def floor_scripts() -> tuple[Script, Script]:
    """Return reserve and settle of the floor."""
    return _script("reserve"), _script("settle")


def _script(name: str) -> Script:
    text = (FLOOR / f"{name}.lua").read_text(encoding="utf-8")
    source = Source(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
    return Script(name, source, source)


def _key(name: str) -> str:
    return f"bg:{{{FLOOR_ORG}}}:{name}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
