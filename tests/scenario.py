"""Scenarios: a table of what happens to budgets, played on several engines at once."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, cast

from msgspec import structs
from ulid import ULID

from gateway.budgets.bookkeeping import CreditWord
from gateway.budgets.changes import Credit
from gateway.budgets.proposals import packed_window
from gateway.domain.budget import Counters, Invalid, available, chain_of
from gateway.domain.money import cents_from_microcents, microcents_from_cents
from gateway.domain.reservation import Ask
from gateway.domain.window import Window, WindowKind
from tests.scenarios.answers import say, tells
from tests.scenarios.engine import Engine, Maybe, given
from tests.scenarios.table import Line, read_table

ORG = "acme"
KINDS: tuple[WindowKind, ...] = ("day", "month", "total")
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


async def play(table: str, engines: Mapping[str, Engine], now_ms: int) -> None:
    """Play a table on every engine; the first one is believed where the table says nothing.

    Raises:
        AssertionError: an answer is not the one of the table, or engines differ; the message shows
            the line and what each engine said.
    """
    scene = _Scene(now_ms)
    for line in read_table(table):
        act = scene.act(line)
        said = {name: say(await given(act(engine))) for name, engine in engines.items()}
        agree = len(set(said.values())) == 1
        if not agree or not all(tells(line.expected, answer) for answer in said.values()):
            raise AssertionError(
                _message("The answers differ at line", line, {"the table": line.expected, **said})
            )
        books = {name: _shown(await given(engine.counters())) for name, engine in engines.items()}
        if len(set(books.values())) > 1:
            raise AssertionError(_message("The books differ after line", line, books))


class _Scene:
    """What the lines of one table share: the clock, the names of ids, the limits."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._ids: dict[str, str] = {}
        self._agents: dict[str, str] = {}
        self._limits = {"status": "active"}

    def act(self, line: Line) -> Callable[[Engine], Maybe[Any]]:
        """Return what a line does on one engine."""
        match line.verb, line.words:
            case "budget", (name, value):
                return self._limit(f"{name}.limit_cents", value)
            case "limit", (field, value):
                return self._limit(field, value)
            case "tick", (text,):
                return self._tick(text)
            case "reserve", (name, agent, text):
                self._agents[name] = agent
                ask = Ask(self._id(name), ORG, agent, _amount(text), body_digest="b1")
                return lambda engine: engine.reserve(ask)
            case "extend", (name, text, ttl):
                ask = Ask(self._id(name), ORG, self._agent(name), _amount(text))
                more = structs.replace(ask, ttl_ms=_duration_ms(ttl) if ttl else 0)
                return lambda engine: engine.extend(more)
            case "settle", (name, text):
                id, agent, cost = self._id(name), self._agent(name), _amount(text)
                return lambda engine: engine.settle(id, agent, cost)
            case "release", (name,):
                id, agent = self._id(name), self._agent(name)
                return lambda engine: engine.release(id, agent)
            case "expire", (name,):
                id = self._id(name)
                return lambda engine: engine.expire(id)
            case "credit", (name, place, text):
                id = self._id(name)
                return lambda engine: _credit(engine, id, place, _amount(text))
            case "balance", (place,):
                return lambda engine: self._balance(engine, place)
        raise LookupError(f"No engine knows what line {line.number} does: {line.text!r}.")

    def _limit(self, field: str, text: str) -> Callable[[Engine], Maybe[Any]]:
        value = None if text == "unset" else text
        self._limits.pop(field, None)
        self._limits.update({field: value} if value is not None else {})
        return lambda engine: engine.limit(field, value)

    def _tick(self, text: str) -> Callable[[Engine], Maybe[Any]]:
        if text[0].isdigit() and "T" in text:
            self._now_ms = int(datetime.fromisoformat(text).timestamp() * 1000)
        else:
            self._now_ms += _duration_ms(text)
        now_ms = self._now_ms
        return lambda engine: engine.at(now_ms)

    def _id(self, name: str) -> str:
        return self._ids.setdefault(name, str(ULID.from_timestamp(self._now_ms)))

    def _agent(self, name: str) -> str:
        return self._agents.get(name, "researcher")

    async def _balance(self, engine: Engine, place: str) -> str:
        scope, window = await _place(engine, place)
        books = await given(engine.counters())
        counters = books.get((packed_window(window), scope), Counters(0, 0, 0))
        agent = scope.removeprefix("agent.") if scope != "org" else ""
        chain = chain_of(self._limits, agent, KINDS, self._now_ms)
        spent, held, credit = map(cents_from_microcents, counters)
        told = f"spent {spent} held {held} credit {credit}"
        for budget in () if isinstance(chain, Invalid) else chain:
            if budget.name == f"{scope}.{window.kind}":
                return f"{told} available {cents_from_microcents(available(budget, counters))}"
        return told


async def _credit(engine: Engine, id: str, place: str, amount: int) -> CreditWord:
    scope, window = await _place(engine, place)
    return await given(engine.credit(Credit(id, ORG, scope, window.kind, window.id, amount)))


async def _place(engine: Engine, text: str) -> tuple[str, Window]:
    # `org.day` stands for the day that was opened last, `org.day:2037-11-22` for that one.
    name, _, window_id = text.partition(":")
    scope, _, kind = name.rpartition(".")
    window = Window(cast(WindowKind, kind), window_id, 0, 0)
    if not window_id:
        window = Window(window.kind, await given(engine.window_id(window.kind)), 0, 0)
    return scope, window


def _amount(text: str) -> int:
    amount = microcents_from_cents(text.removeprefix("-"))
    if amount is None:
        raise ValueError(f"The amount is {text!r}; expected cents.")
    return -amount if text.startswith("-") else amount


def _duration_ms(text: str) -> int:
    match = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text)
    if match is None:
        raise ValueError(f"The duration is {text!r}; expected a number with ms, s, m, h or d.")
    return int(match[1]) * _UNITS_MS[match[2]]


def _shown(counters: dict[tuple[str, str], Counters]) -> str:
    return "; ".join(
        f"{window} {scope} spent {numbers[0]} held {numbers[1]} credit {numbers[2]}"
        for (window, scope), numbers in sorted(counters.items())
    )


def _message(what: str, line: Line, said: Mapping[str, str]) -> str:
    width = max(map(len, said))
    rows = "\n".join(f"    {name:<{width}}  {words}" for name, words in said.items())
    return f"{what} {line.number}:\n{line.text}\n{rows}"
