"""Agents: their descriptions as the data plane uses them, never older than a second."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import orjson
import structlog
from msgspec import Struct

from gateway.domain.agent import Agent, Dialect, read_agent
from gateway.proxy.credentials import Credentials
from gateway.proxy.dialect import Voice
from gateway.proxy.head import Header, header_lines
from gateway.proxy.origin import Origin, origin_of

FRESH_S = 1.0
# From this age on an entry is read anew behind the back of the call that uses it: under load no
# call waits for a second round trip.
_AGING_S = 0.5
# Agent ids come from callers: without a bound anyone could fill the memory with invented ones.
ENTRIES_MAX = 20_000
# Files may be replaced while the description stays.
_FROM_FILE = b'"file:'
# What the meter must read may not come compressed.
_UNCODED: Header = (b"accept-encoding", b"identity")
_OPENAI = re.compile(rb"/(?:chat/completions|completions|responses|embeddings)(?:/|$)")
_ANTHROPIC = re.compile(rb"/messages(?:/|$)")

_log = structlog.get_logger()

ReadJson = Callable[[str, str], Awaitable[bytes | None]]


class Route(Struct, frozen=True):
    """An agent, where its upstream is, and the headers that go there in place of the caller's.

    ``replaced`` are their names; ``is_uncoded`` says that Accept-Encoding is one of them, which
    it is for nearly every agent, and ``replaced`` then names the others.
    """

    agent: Agent
    origin: Origin
    added: tuple[Header, ...]
    added_lines: bytes
    replaced: frozenset[bytes]
    is_uncoded: bool


class Unusable(NamedTuple):
    """The agent is registered, but its description cannot be used; ``why`` names the member."""

    why: str


Found = Route | Unusable | None


class _Entry(Struct, frozen=True):
    """What was read of an agent, and when; ``route`` is what was found, where it is one."""

    text: bytes | None
    found: Found
    route: Route | None
    read_s: float


class Agents:
    """The agents of every org, read with ``read_json`` and remembered, unknown ones too."""

    def __init__(
        self, read_json: ReadJson, credentials: Credentials, entries_max: int = ENTRIES_MAX
    ) -> None:
        self._read_json = read_json
        self._credentials = credentials
        self._entries_max = entries_max
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._readings: dict[tuple[str, str], asyncio.Task[Found]] = {}

    def known(self, org: str, agent: str) -> Route | None:
        """Return the route to an agent where it was read within a second; else ask ``find``."""
        entry = self._entries.get((org, agent))
        if entry is None:
            return None
        age_s = time.monotonic() - entry.read_s
        if age_s > _AGING_S and entry.route is not None:
            self._reading(org, agent)
        return entry.route if age_s < FRESH_S else None

    async def find(self, org: str, agent: str) -> Found:
        """Return the route to an agent, or None where the org has no such agent.

        Raises:
            StoreError: it was not read within a second and cannot be read now.
        """
        entry = self._entries.get((org, agent))
        if entry is not None and time.monotonic() - entry.read_s < FRESH_S:
            return entry.found
        # Shielded, because a caller who leaves must not take the answer from the others.
        return await asyncio.shield(self._reading(org, agent))

    def _reading(self, org: str, agent: str) -> "asyncio.Task[Found]":
        task = self._readings.get((org, agent))
        if task is None:
            task = asyncio.create_task(self._read(org, agent))
            self._readings[org, agent] = task
            task.add_done_callback(lambda ended: self._read_ended(org, agent, ended))
        return task

    def _read_ended(self, org: str, agent: str, task: "asyncio.Task[Found]") -> None:
        del self._readings[org, agent]
        # Asking marks an error as seen: whoever only refreshed an entry does not wait for it.
        if not task.cancelled():
            task.exception()

    async def _read(self, org: str, agent: str) -> Found:
        asked_s = time.monotonic()
        text = await self._read_json(org, agent)
        known = self._entries.get((org, agent))
        if known is not None and known.text == text and _FROM_FILE not in (text or b""):
            found = known.found
        else:
            found = self._found(org, agent, text)
        if len(self._entries) >= self._entries_max:
            self._entries.clear()
        route = found if isinstance(found, Route) else None
        self._entries[org, agent] = _Entry(text, found, route, asked_s)
        return found

    def _found(self, org: str, agent: str, text: bytes | None) -> Found:
        if text is None:
            return None
        try:
            return self._route(text)
        except ValueError as error:
            _log.error("agent_unusable", org=org, agent=agent, error=str(error))
            return Unusable(str(error))

    def _route(self, text: bytes) -> Route:
        description = orjson.loads(text)
        if not isinstance(description, dict):
            raise ValueError("The description is no JSON object.")
        agent = read_agent(description)
        added = self._credentials.headers(agent.headers)
        if agent.pricing.mode != "flat":
            added += (_UNCODED,)
        names = frozenset(name for name, _ in added)
        others, is_uncoded = names - {_UNCODED[0]}, _UNCODED[0] in names
        origin = origin_of(agent.upstream)
        return Route(agent, origin, added, header_lines(added), others, is_uncoded)


def voice_of(dialect: Dialect, path: bytes) -> Voice:
    """Return the dialect of a call: the agent's own, or the one that the raw path belongs to."""
    if dialect != "auto":
        return dialect
    place = path.partition(b"?")[0]
    if _OPENAI.search(place):
        return "openai"
    return "anthropic" if _ANTHROPIC.search(place) else "generic"
