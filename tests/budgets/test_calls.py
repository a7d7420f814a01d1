"""Calls: every word of a call is that call's own, whatever was called before in the same frames."""

import asyncio
from collections.abc import Sequence
from itertools import product
from typing import Any

import hiredis
from msgspec import structs

from gateway.budgets.calls import Calls
from gateway.budgets.changes import Settlement
from gateway.budgets.frames import Word
from gateway.budgets.node import Node
from gateway.budgets.proposals import Proposal
from gateway.budgets.scripts import Form, Script, Source, load_scripts
from gateway.budgets.waiter import Waiter
from gateway.domain.reservation import Ask

ID = "01KPQ7Z8M0ABCDEFGHJKMNPQRS"
OLD = "00000000000000000000000001"
FAR = "7ZZZZZZZZZABCDEFGHJKMNPQRS"
INSTANTS = {
    ID: b"1776749093504",
    OLD: b"0",
    FAR: b"281474976710655",
    "01KPQ7Z8M0": b"1776749093504",
}
DAY = Proposal("UTC", (), (), (), "day:2026-11-22,total", "day|2026-11-22|1|2", 2)
ASK = Ask(ID, "acme", "researcher", 5, "k1")
SETTLEMENT = Settlement("acme", "researcher", ID, "day:2026-11-22,total", 5, b"{}")
SCRIPTS = load_scripts()
FORMS: tuple[Form, Form] = (1, 2)


class _Paper:
    """A wire that is its own line, and writes down the words of the last call."""

    form: Form = 1

    def __init__(self) -> None:
        self.node: Node | None = None
        self.admits: Node | None = None
        self.problem = ""
        self.skew_ms: int | None = 0
        self.epoch = ""
        self.script = Source("", "")
        self.words: list[bytes] = []

    @property
    def line(self) -> "_Paper":
        """Return itself."""
        return self

    def transmit(self, waiter: Waiter, packed: bytes, source: str | None = None) -> None:
        """Read the command as Redis would."""
        reader = hiredis.Reader()
        reader.feed(packed)
        words = reader.gets()
        assert isinstance(words, list)
        assert reader.gets() is False
        self.script = Source(source or "", words[1].decode())
        self.words = words[2:]

    def submit(
        self, script: Script, keys: Sequence[str], args: Sequence[Word]
    ) -> asyncio.Future[list[Any]]:
        """Fail: both calls come in frames."""
        raise AssertionError("both calls come in frames")

    def command(self, *words: Word) -> asyncio.Future[Any]:
        """Fail: both calls come in frames."""
        raise AssertionError("both calls come in frames")

    def future(self) -> asyncio.Future[Any]:
        """Return a waiter."""
        return asyncio.Future()


async def test_reserve_says_what_was_asked() -> None:
    """After any other call of the same deployment, each word is that of the ask."""
    paper = _Paper()
    calls = Calls(paper, SCRIPTS, 60_000, 9)
    asks = [
        ASK,
        *(structs.replace(ASK, id=other) for other in INSTANTS),
        structs.replace(ASK, org="other%b"),
        structs.replace(ASK, agent="writer%"),
        structs.replace(ASK, amount_microcents=2**53 - 1),
        structs.replace(ASK, key_digest="k%d"),
        structs.replace(ASK, owner="api"),
        structs.replace(ASK, body_digest="b"),
        structs.replace(ASK, idempotency_digest="i1"),
        structs.replace(ASK, idempotency_digest="i2", body_digest="b%", ttl_ms=1),
    ]
    proposals = [
        DAY,
        structs.replace(DAY, zone="Asia/%b"),
        structs.replace(DAY, packed="hour:2026-11-22T10,total"),
        structs.replace(DAY, bounds="day|2026-11-22|1|3"),
    ]
    rounds = list(product(asks, proposals, ("1", "2"), FORMS))

    for ask, proposal, epoch, form in (*rounds, *reversed(rounds)):
        paper.epoch, paper.form = epoch, form
        calls.reserve(ask, proposal)
        assert paper.script == SCRIPTS.reserve[form]
        assert paper.words == _reserve_words(ask, proposal, epoch)


async def test_settle_says_what_was_settled() -> None:
    """After any other call of the same deployment, each word is that of the settlement."""
    paper = _Paper()
    calls, waiter = Calls(paper, SCRIPTS, 60_000, 9), paper.future()
    settlements = [
        SETTLEMENT,
        *(structs.replace(SETTLEMENT, id=other) for other in INSTANTS),
        structs.replace(SETTLEMENT, org="other%b"),
        structs.replace(SETTLEMENT, agent="writer%"),
        structs.replace(SETTLEMENT, cost_microcents=2**53 - 1),
        structs.replace(SETTLEMENT, detail=b'{"tags":"100%"}' * 100),
    ]
    tokens = ["total", "day:2026-11-22,total", "total;i1", "total;i22"]
    rounds = list(product(settlements, tokens, ("1", "2"), FORMS))

    for settlement, token, epoch, form in (*rounds, *reversed(rounds)):
        paper.epoch, paper.form = epoch, form
        calls.settle(settlement, token, waiter)
        assert paper.script == SCRIPTS.settle[form]
        assert paper.words == _settle_words(settlement, token, epoch)


def _reserve_words(ask: Ask, proposal: Proposal, epoch: str) -> list[bytes]:
    windows = proposal.packed.split(",")
    idem = f"idem:{ask.idempotency_digest or '-'}"
    keys = [
        *_keys(ask.org, "limits", "meta", "keys", "holds"),
        "bg:expiry",
        *_keys(ask.org, f"done:{ask.id}"),
        "bg:journal",
        *_keys(ask.org, "rate", idem, *(f"spend:{window}" for window in windows)),
    ]
    args = [
        *(ask.id, INSTANTS[ask.id].decode(), ask.org, ask.agent, ask.amount_microcents),
        *(ask.ttl_ms, 60_000, ask.key_digest, ask.owner, ask.body_digest, ask.idempotency_digest),
        *(proposal.zone, 9, epoch, proposal.packed, proposal.bounds),
    ]
    return [str(word).encode() for word in (len(keys), *keys, *args)]


def _settle_words(settlement: Settlement, token: str, epoch: str) -> list[bytes]:
    packed, _, digest = token.partition(";")
    spend = (f"spend:{window}" for window in packed.split(","))
    keys = [
        *_keys(settlement.org, "limits", "meta", "holds"),
        "bg:expiry",
        *_keys(settlement.org, f"done:{settlement.id}"),
        "bg:journal",
        *_keys(settlement.org, "rate", f"idem:{digest or '-'}", *spend),
    ]
    args = [
        *(settlement.id, INSTANTS[settlement.id].decode(), settlement.org, settlement.agent),
        *(settlement.cost_microcents, packed, digest, epoch, settlement.detail.decode()),
    ]
    return [str(word).encode() for word in (len(keys), *keys, *args)]


def _keys(org: str, *names: str) -> list[str]:
    return [f"bg:{{{org}}}:{name}" for name in names]
