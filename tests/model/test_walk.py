"""Walks of fixed seeds on every store, and what the walk itself promises.

The big runs are a command, which prints its speed and the seed that fails:
``python -m tests.model.walk --steps 1000000 --store fakeredis`` and ``--steps 100000`` on each
name of ``SCRIPT_SERVERS``.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import pytest

from gateway.cli.embedded_redis import EmbeddedRedis
from tests.lua.store import NOON, ms
from tests.model.calls import ORG, Reserve
from tests.model.gateway import EPOCH, HOLD_TTL_MS
from tests.model.org import ENTRY_FIELDS
from tests.model.steps import Walk
from tests.model.stores import Command, FakeStore, ServerStore, Store
from tests.model.twin import Difference, load
from tests.model.walk import play
from tests.servers import SCRIPT_SERVERS

_DATABASE = 9
# Every answer of the contract, by verb.
ANSWERS = {
    "reserve": "BADARG CLOCK COLD UNKNOWN_KEY KEY_EXPIRED AGENT_NOT_ALLOWED DONE HELD MISMATCH "
    "IDEMPOTENT LIMITS_INVALID FROZEN WINDOW JOURNAL_FULL PER_CALL DENIED BUSY CONCURRENCY RATE",
    "settle": "BADARG WINDOWS DONE DONE_OTHER VOIDED LATE JOURNALED SETTLED",
    "release": "WINDOWS DONE VOID RELEASED",
    "resume": "BADARG COLD DONE HELD RESUMED",
    "extend": "BADARG GONE WINDOWS LIMITS_INVALID FROZEN PER_CALL DENIED BUSY HELD",
    "expire": "expired released held settled void gone windows",
    "credit": "BADARG DONE COLD GONE OK",
    "correct": "BADARG DONE OK",
    "repair": "DONE OK",
    "inspect": "OK",
    "authenticate": "COLD UNKNOWN_KEY KEY_EXPIRED AGENT_NOT_ALLOWED OK",
}
_id = "01YBBFXKG00000000000000AAA"
ASK = Reserve(
    *(_id, str(ms(NOON)), ORG, "researcher", "1000000", "0", HOLD_TTL_MS, "", "proxy", "b1", ""),
    *("", "1000", EPOCH, "", ""),
)


@pytest.fixture(params=["fakeredis", *SCRIPT_SERVERS])
def any_store(
    request: pytest.FixtureRequest, script_server: Callable[[str], EmbeddedRedis]
) -> Iterator[Store]:
    """Yield a store with every script, in a database that no other test uses."""
    name = request.param
    store: Store = (
        FakeStore()
        if name == "fakeredis"
        else ServerStore(script_server(name).url, _DATABASE, name != "redis-6.2")
    )
    load(store)
    yield store
    store.run([("FLUSHDB",)])
    store.close()


class Unplayed:
    """A store that is never asked: the model walks alone."""

    is_flagged = has_own_clock = False

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Take nothing."""
        raise AssertionError(f"{commands} are played.")

    def lasts(self, left_ms: int, now_ms: int, at_ms: int, ttl_ms: int) -> bool:
        """Say that nothing does."""
        return False

    def close(self) -> None:
        """Do nothing."""


def test_walk_finds_no_difference(any_store: Store) -> None:
    """Every reply, counter, hold, end, entry and time to live is that of the model."""
    for seed in range(10):
        play(any_store, seed, steps=200, every=10)


def test_walk_meets_every_answer() -> None:
    """The steps are such that each word of the contract is answered."""
    met: Counter[tuple[str, str]] = Counter()
    for seed in range(50):
        walk = Walk(Unplayed(), Random(seed), batch_max=10**9)
        for _ in range(200):
            walk.step()
        met += walk.twin.met

    expected = {(verb, word) for verb, words in ANSWERS.items() for word in words.split()}
    assert sorted(expected - set(met)) == []


@pytest.mark.parametrize(
    "command",
    [
        ("HINCRBY", "bg:{acme}:spend:total", "org.spent", 1),
        ("HSET", "bg:{acme}:spend:total", "agent.writer.warned", 1),
        ("HDEL", "bg:{acme}:holds", "{id}"),
        ("ZADD", "bg:expiry", 1, "acme|{id}"),
        ("XADD", "bg:journal", "*", *(word for name in ("v", *ENTRY_FIELDS) for word in (name, 1))),
        ("PERSIST", "bg:{acme}:spend:day:2037-11-22"),
        ("HINCRBY", "bg:{acme}:rate", "agent.researcher.open", -1),
        ("HINCRBY", "bg:{acme}:meta", "seq", 1),
        ("SET", "bg:{acme}:done:{id}", "1|void|0|0|0|0|0|||"),
    ],
    ids=lambda command: f"{command[0]}-{command[1]}",
)
def test_whatever_the_store_holds_else_is_a_difference(
    any_store: Store, command: tuple[str | int, ...]
) -> None:
    """One field, member, entry or time to live that the model has not is found and shown."""
    walk = Walk(any_store, Random(7))
    walk.gateways[0].reserve(ASK)
    walk.twin.check()
    words = [str(word).replace("{id}", ASK.id) for word in command]

    any_store.run([words])

    with pytest.raises(Difference, match=re.escape(words[1])):
        walk.twin.check()


def test_answer_that_differs_shows_both(any_store: Store) -> None:
    """A reply of the store that the model would not give fails at its step, with the call."""
    walk = Walk(any_store, Random(7))
    walk.twin.play()
    any_store.run([("HSET", "bg:{acme}:limits", "status", "frozen")])

    with pytest.raises(Difference, match=r"(?s)Reserve\(id='.*HELD.*FROZEN"):
        walk.gateways[0].reserve(ASK)


def test_seed_is_named_and_plays_again(any_store: Store) -> None:
    """A walk that fails names its seed, and the seed makes the same steps again."""
    first, again = (Walk(Unplayed(), Random(11), batch_max=10**9) for _ in range(2))
    for walk in (first, again):
        for _ in range(100):
            walk.step()
    assert first.twin.org.contents() == again.twin.org.contents()

    any_store.run([("SCRIPT", "FLUSH")])

    with pytest.raises(Difference) as caught:
        play(any_store, seed=11, steps=100, every=1)
    assert "--seed 11 --steps 100" in caught.value.__notes__[0]
