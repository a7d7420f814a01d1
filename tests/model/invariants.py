"""Invariants: what must hold after every step, whoever is right about the rest.

I1: an admission leaves no hard budget overdrawn. I3: a reservation ends once and is charged once.
I4: what the open holds of a scope come to is what its counters hold, and what the journal counted
is what they have spent. A refusal or a repeat that changed a counter (I2), or a call that counted
in one place only (I7), would break those sums. What is resumed was granted before: no budget is
asked, so it is no admission; but nothing that is known to have ended is held.
"""

from collections import Counter
from collections.abc import Sequence
from typing import cast

from gateway.domain.budget import Counters, Invalid, available, chain_of
from gateway.domain.window import WindowKind
from tests.model.calls import Repair
from tests.model.org import ENTRY_FIELDS, Hold, Org

Place = tuple[str, str]


class Invariants:
    """Sums of its own over the holds and the journal of an org."""

    def __init__(self, org: Org) -> None:
        self._org = org
        self._read = 0
        self._seq = 0
        self._held: dict[str, int] = {}
        self._spent: Counter[Place] = Counter()
        # What was held where counters had left by their TTL; a resume may bring those back.
        self._left: Counter[Place] = Counter()
        self._charged: Counter[str] = Counter()
        self._ended: set[str] = set()
        self._granted: set[str] = set()
        self._is_once = True

    def check(self) -> None:
        """Check the step that was done since the last call.

        Raises:
            AssertionError: something does not hold.
        """
        org = self._org
        held = {id: hold.amount for id, hold in org.holds.items()}
        for id, amount in held.items():
            assert id not in org.done, f"{id} is held, and has ended"
            if id in self._granted:
                self._ended.discard(id)
                continue
            if id not in self._held and self._is_once:
                assert id not in self._ended, f"{id} is held again after its end"
            if amount > self._held.get(id, 0):
                self._check_admission(org.holds[id], is_new=id not in self._held)
        self._ended |= self._held.keys() - held.keys()
        self._held = held
        self._granted.clear()
        assert org.seq >= self._seq, "the sequence went back"
        self._seq = org.seq
        # Nothing is known of an id any more: what comes of it now is for the ledger to decide.
        for id in [id for id in self._charged if id not in org.done]:
            del self._charged[id]
        for entry in org.journal[self._read :]:
            self._count(dict(zip(ENTRY_FIELDS, entry, strict=True)))
        self._read = len(org.journal)
        self._check_sums()

    def forget_ends(self) -> None:
        """Let ids end twice: the clock goes back further than an id may be old."""
        self._is_once = False

    def resumed(self, id: str) -> None:
        """Let a hold be there, or be more, whatever there is room for: it was granted before."""
        self._granted.add(id)

    def forgot(self, id: str) -> None:
        """Let a hold be gone that has not ended."""
        del self._held[id]

    def restore(self, older: "Invariants") -> None:
        """Go on from older sums, as the books do."""
        is_once = self._is_once and older._is_once
        vars(self).update(vars(older), _org=self._org, _is_once=is_once)

    def repaired(self, change: Repair) -> None:
        """Count a repair that was made."""
        for window, field, amount in change.changes:
            self._spent[window, field.removesuffix(".spent")] += int(amount)

    def _check_admission(self, hold: Hold, is_new: bool) -> None:
        org = self._org
        kinds = [window.partition(":")[0] for window in hold.windows.split(",")]
        now_ms = org.clamped_ms if is_new else org.now_ms
        known = cast(Sequence[WindowKind], kinds)
        chain = chain_of(org.limits, hold.agent, known, now_ms)
        assert not isinstance(chain, Invalid), "limits that are not valid admitted a call"
        of_kind = dict(zip(kinds, hold.windows.split(","), strict=True))
        for budget in chain:
            fields = org.spend.get(of_kind[budget.window], {})
            names = (f"{budget.scope}.{name}" for name in ("spent", "held", "credit"))
            counters = Counters(*(fields.get(name, 0) for name in names))
            is_within = budget.mode != "hard" or available(budget, counters) >= 0
            assert is_within, f"{budget.name} is overdrawn by an admission: {counters}"

    def _count(self, entry: dict[str, str]) -> None:
        counted, kind, id = int(entry["counted"]), entry["kind"], entry["id"]
        if kind not in ("settle", "expire", "correct"):
            return
        for window in entry["windows"].split(","):
            self._spent[window, "org"] += counted
            self._spent[window, f"agent.{entry['agent']}"] += counted
        if kind != "correct" and counted and self._is_once:
            self._charged[id] += counted
            is_once = self._charged[id] == int(entry["amount"])
            assert is_once, f"{id} is charged {self._charged[id]}, not {entry['amount']}"

    def _check_sums(self) -> None:
        org = self._org
        held: Counter[Place] = Counter()
        for hold in org.holds.values():
            for window in hold.windows.split(","):
                held[window, "org"] += hold.amount
                held[window, f"agent.{hold.agent}"] += hold.amount
        for window, fields in org.spend.items():
            for field, number in fields.items():
                scope, _, name = field.rpartition(".")
                place = (window, scope)
                if name == "held":
                    kept = held[place] - self._left[place]
                    assert number == kept, f"{place} holds {number}, not {kept}"
                    assert number >= 0 or self._left[place], f"{place} holds {number}"
                if name == "spent":
                    assert number == self._spent[place], f"{place} spent {number}"
        left = {place: held[place] for place in held if place[0] not in org.spend}
        stays = {place: self._left[place] for place in self._left if place[0] in org.spend}
        self._left = Counter(left | stays)
        # Counters that left are the ledger's.
        for place in [place for place in self._spent if place[0] not in org.spend]:
            del self._spent[place]
