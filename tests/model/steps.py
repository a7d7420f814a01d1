"""Steps: whatever may happen to one org, drawn step by step, on the model and a store alike."""

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from ulid import ULID

from gateway.budgets.proposals import packed_window, window_bounds
from gateway.budgets.records import windows_token
from gateway.domain.window import WindowKind, window_at
from tests.lua.store import NOON, ms
from tests.model import draws
from tests.model.calls import (
    ORG,
    Authenticate,
    Call,
    Correct,
    Credit,
    Expire,
    Extend,
    Inspect,
    Repair,
    Reserve,
    Resume,
    Settle,
)
from tests.model.gateway import EPOCH, HOLD_TTL_MS, Gateway, kinds_of
from tests.model.invariants import Invariants
from tests.model.losses import forget, rebuilt, restart, written
from tests.model.operators import Operators
from tests.model.stores import Store
from tests.model.twin import Twin

# What a counter is near its cap by.
_USED = ("held", "spent")


class Known(NamedTuple):
    """A reservation as its callers know it; the token is empty where no answer came."""

    ask: Reserve
    token: str


class Walk(Operators):
    """One org from its first step on. Every choice is drawn from ``dice``."""

    def __init__(self, store: Store, dice: Random, batch_max: int = 1) -> None:
        twin = Twin(store, ms(NOON), batch_max)
        super().__init__(twin, dice, kinds_of(dice.choice(draws.KINDS)))
        self.invariants = Invariants(self.twin.org)
        self.known: list[Known] = []
        self._number = 0
        self.gateways = [Gateway(self.twin, self.kinds, skew) for skew in (0, 1_500)]
        self._field("status", "active")
        is_open = self._one_in(6)
        for _ in range(0 if is_open else dice.randrange(1, 6)):
            self.limit()
        for rule in dice.choice(draws.FIRST_RULES):
            self._field(f"{dice.choice(draws.SCOPES)}.{rule}", dice.choice(draws.RULES[rule]))
        self._field("org.month.limit_cents", "none" if is_open else dice.choice(draws.FIRST_LIMITS))
        for digest in ("d1", "d2", "d3"):
            self._key(digest, draws.KEY_RECORDS[int(digest[1]) - 1])
        self.file = written(self.twin.org, self.invariants)

    def step(self) -> None:
        """Do one step of any kind, and check what must hold after each."""
        self.do(self.dice.choice(_STEPS))

    def do(self, step: "Callable[[Walk], None]") -> None:
        """Do a step, and check what must hold after each."""
        self.twin.steps += 1
        step(self)
        self.invariants.check()

    def reserve(self) -> None:
        """Reserve under a new id; sometimes no answer comes back."""
        ask = self._ask()
        reply = self.dice.choice(self.gateways).reserve(ask)
        self._remember(ask, reply)

    def repeat(self) -> None:
        """Reserve once more under a known id, as it was or for something else."""
        known = self._pick()
        if known is None:
            return
        ask, words = known.ask, draws.CENTS
        change = self.dice.choice(("", "", "", "amount_microcents", "body_digest", "agent"))
        if change:
            values = {"amount_microcents": words, "body_digest": ("b2",), "agent": draws.AGENTS}
            ask = ask._replace(**{change: self.dice.choice(values[change])})
        self._remember(ask, self.dice.choice(self.gateways).reserve(ask))

    def stray(self) -> None:
        """Reserve once with windows of another zone or another instant, and learn nothing."""
        org = self.twin.org
        zone = self.dice.choice((*draws.ZONES, "UTC"))
        now_ms = org.now_ms + self.dice.choice((0, 0, -86_400_000, 86_400_000))
        windows = [window_at(kind, now_ms, ZoneInfo(zone)) for kind in self.kinds]
        bounds = ",".join(window_bounds(window) for window in windows if window.end_ms)
        packed = ",".join(map(packed_window, windows))
        ask = self._ask()._replace(zone=zone, windows=packed, proposal=bounds)
        self._remember(ask, self._call(ask))

    def settle(self) -> None:
        """Settle a hold, or what is held no more: twice, late, from a spool, with other windows."""
        known = self._pick()
        if known is None:
            return
        quote = int(known.ask.amount_microcents)
        cost = self.dice.choice((quote, quote, quote // 2, 0, quote + 1_500_000, 3))
        if cost > int(draws.CENTS[-1]) * 10:
            cost = 1_000_000
        own = (known.ask.id, known.ask.reserved_ms, ORG, known.ask.agent, str(cost))
        settle = Settle(*own, "", "", EPOCH, '{"model":"m"}')
        self.dice.choice(self.gateways).settle(settle, self._token(known))

    def release(self) -> None:
        """Release a hold, or what is held no more, or what never was."""
        known = self._pick()
        if known is None or self._one_in(10):
            ask = self._ask()
            known = Known(ask, "")
            self.known.append(known)
        ask = known.ask
        self.dice.choice(self.gateways).release(ask.id, ask.agent, self._token(known))

    def resume(self) -> None:
        """Resume what was forgotten, or what is held, has ended or never was."""
        org, dice = self.twin.org, self.dice
        gone = [
            known
            for known in self.known[-60:]
            if known.token and known.ask.id not in org.holds and known.ask.id not in org.done
        ]
        known = dice.choice(gone) if gone and self._one_in(2) else self._pick()
        if known is None:
            return
        ask = known.ask
        amount = dice.choice((*(ask.amount_microcents,) * 8, *draws.CENTS))
        used = [fields.get(f"org.{name}", 0) for fields in org.spend.values() for name in _USED]
        # Beyond the cap of a counter Lua cannot tell one amount from the next.
        amount = "1" if max(used, default=0) + int(amount) > int(draws.HUGE) else amount
        ttl_ms = dice.choice(draws.TTLS_MS)
        agent = dice.choice((*(ask.agent,) * 8, "writer"))
        own = (ask.id, ask.reserved_ms, ORG, agent, amount)
        said = (HOLD_TTL_MS if ttl_ms == "0" else ttl_ms, ask.key_digest.replace("d", "k"))
        resume = Resume(*own, *said, ask.owner, ask.body_digest, "", "")
        reply = dice.choice(self.gateways).resume(resume, self._token(known))
        if reply[0] in (b"HELD", b"RESUMED"):
            self.invariants.resumed(ask.id)

    def forget(self) -> None:
        """Let the store forget a hold, or that it was extended."""
        org = self.twin.org
        if not org.holds:
            return
        id = self.dice.choice(sorted(org.holds))
        hold = org.holds[id]
        older = hold._replace(
            amount=hold.amount // 2, deadline_ms=max(org.now_ms, hold.deadline_ms - 20_000)
        )
        forget(self.twin, self.invariants, id, older if self._one_in(3) else None)

    def write(self) -> None:
        """Write the file that the store may be started from again."""
        self.file = written(self.twin.org, self.invariants)

    def restart(self) -> None:
        """Start the store from the file that was written last."""
        restart(self.twin, self.invariants, self.file)

    def rebuild(self) -> None:
        """Let operators rebuild the org under a new epoch, and one gateway see it at once."""
        org = self.twin.org
        epoch = str(int(org.meta.get("epoch", EPOCH)) + 1)
        if self._one_in(2):
            restart(self.twin, self.invariants, rebuilt(org))
        self._meta("epoch", epoch)
        self.dice.choice(self.gateways).follow()

    def extend(self) -> None:
        """Extend a hold to more money or more time."""
        known = self._pick()
        if known is None:
            return
        target = self.dice.choice((*draws.CENTS, known.ask.amount_microcents, draws.HUGE))
        ttl_ms = self.dice.choice(draws.TTLS_MS)
        own = (known.ask.id, ORG, self.dice.choice(draws.AGENTS), target)
        extend = Extend(*own, HOLD_TTL_MS if ttl_ms == "0" else ttl_ms, "", EPOCH)
        self.dice.choice(self.gateways).extend(extend, self._token(known))

    def sweep(self) -> None:
        """Expire what is due, or some ids whatever they are."""
        org = self.twin.org
        due = [id for id, hold in org.holds.items() if hold.deadline_ms <= org.now_ms]
        ids = due[: self.dice.choice((0, 5, 5))]
        while not ids or self._one_in(3):
            known = self._pick()
            if known is None:
                return
            ids.append(known.ask.id)
        if self._one_in(8):
            # One that believes all holds to be in the windows that run now.
            self._call(Expire(ORG, self.gateways[1].packed_now(), EPOCH, tuple(ids), ""))
        else:
            self.gateways[0].sweep(ids)

    def tick(self) -> None:
        """Let time pass: a moment, to the edge of a window or a deadline, or until keys leave."""
        org, dice = self.twin.org, self.dice
        ends = [window.end_ms for window in org.running.values() if window.end_ms > org.now_ms]
        later = [org.now_ms + step for step in draws.TICKS_MS]
        ends += [hold.deadline_ms for hold in org.holds.values() if hold.deadline_ms > org.now_ms]
        edges = [end_ms + edge for end_ms in ends for edge in (-1, 0, 5)]
        if edges and self._one_in(3):
            later = sorted(edges)[:6]
        self._at(dice.choice(later))

    def jump(self) -> None:
        """Let the clock jump: back by a little, or ahead by days."""
        now_ms = self.twin.org.now_ms
        times = [now_ms - back for back in draws.BACK_MS]
        times += [now_ms + ahead for ahead in draws.LONG_TICKS_MS]
        if self._one_in(10):
            self.invariants.forget_ends()
            times = [now_ms - 400_009]
        self._at(self.dice.choice(times))

    def credit(self) -> None:
        """Credit a running window, the next one, one that has ended or none; or once more."""
        dice, org = self.dice, self.twin.org
        kind: WindowKind = dice.choice(self.kinds)
        running = org.running.get(kind)
        now_ms = org.now_ms + dice.choice((0, 0, -90_000_000, 90_000_000))
        id = window_at(kind, now_ms, ZoneInfo(dice.choice(draws.ZONES))).id
        if running and not self._one_in(4):
            id = running.id
        amount = dice.choice(("3000000", "-2000000", "10000000", "0", "-40000000"))
        scope = dice.choice(("org", "agent.writer", "agent.researcher"))
        own = (self._id(), str(org.now_ms), ORG, scope, amount)
        change = Credit(*own, "UTC", EPOCH, "", "")
        dice.choice(self.gateways).credit(change, kind, id)
        self._again(change._replace(window="total"))

    def correct(self) -> None:
        """Correct the spend of a reservation, up or down; or once more."""
        ended = [known for known in self.known if known.token]
        if not ended:
            return
        known = self.dice.choice(ended)
        amount = self.dice.choice(("1500000", "-1", "0", "-4000000"))
        own = (self._id(), known.ask.id, known.ask.reserved_ms, ORG, known.ask.agent, amount)
        self._again(Correct(*own, known.token.partition(";")[0], EPOCH, "{}"))

    def repair(self) -> None:
        """Repair counters by a difference; or once more."""
        windows = [*sorted(self.twin.org.spend)[:4], "day:2037-01-01"]
        fields = ("org.spent", "agent.writer.spent")
        changes = tuple(
            (self.dice.choice(windows), self.dice.choice(fields), self.dice.choice(("5", "-7")))
            for _ in range(self.dice.randrange(1, 4))
        )
        change = Repair(self._id(), changes)
        if self._again(change)[0] == b"OK":
            self.invariants.repaired(change)

    def look(self) -> None:
        """Inspect counters, and authenticate a key."""
        self._call(Inspect(self.gateways[0].packed_now()))
        self._call(
            Authenticate(self.dice.choice(draws.KEY_DIGESTS), self.dice.choice((*draws.AGENTS, "")))
        )

    def bad(self) -> None:
        """Call with one argument that is malformed."""
        id, total = self._id(), "total"
        own = (id, str(self.twin.org.now_ms), ORG)
        calls: tuple[Any, ...] = (
            self._ask()._replace(zone="UTC", windows="total"),
            Settle(*own, "writer", "1", total, "", EPOCH, "{}"),
            Resume(*own, "writer", "1", "1000", "k1", "api", "b1", "", total),
            Extend(id, ORG, "writer", "1", "1000", total, EPOCH),
            Credit(*own, "org", "1", "UTC", EPOCH, total, ""),
            Correct(id, *own, "writer", "1", total, EPOCH, "{}"),
        )
        call = self.dice.choice(calls)
        names = [name for name in draws.ARGUMENTS if name in call._fields]
        names = [name for name in names if (name, type(call)) != ("windows", Reserve)]
        name = self.dice.choice(names)
        self._call(call._replace(**{name: self.dice.choice(draws.ARGUMENTS[name])}))

    def _call(self, call: Call) -> list[Any]:
        return self.twin.call(call)

    def _again(self, change: Credit | Correct | Repair) -> list[Any]:
        reply = self._call(change)
        if self._one_in(3):
            self._call(change)
        return reply

    def _ask(self) -> Reserve:
        dice, now_ms = self.dice, self.twin.org.now_ms
        # Where nothing limits the org only the cap of a counter does.
        is_open = self.twin.org.limits.get("org.month.limit_cents") == "none"
        amount = draws.HUGE if self._one_in(3 if is_open else 16) else dice.choice(draws.CENTS)
        late = dice.choice((0,) * 18 + (299_000, -310_000))
        id = self._id(late)
        own = (id, str(now_ms + late), ORG, dice.choice(draws.AGENTS), amount)
        times = (dice.choice(draws.TTLS_MS), HOLD_TTL_MS)
        digests = (dice.choice(draws.KEY_DIGESTS), dice.choice(("proxy", "api")), "b1")
        most = str(dice.choice((100_000,) * 30 + (len(self.twin.org.journal),)))
        idem = dice.choice(draws.DIGESTS)
        return Reserve(*own, *times, *digests, idem, "", most, EPOCH, "", "")

    def _id(self, late_ms: int = 0) -> str:
        # Of the walk's own numbers, so that a seed makes the same ids again.
        self._number += 1
        instant = (self.twin.org.now_ms + late_ms).to_bytes(6, "big")
        return str(ULID.from_bytes(instant + self._number.to_bytes(10, "big")))

    def _remember(self, ask: Reserve, reply: list[Any]) -> None:
        token = ""
        if reply[0] == b"HELD" and not self._one_in(5):
            token = windows_token(reply[2].decode(), ask.idem_digest)
        if reply[0] in (b"HELD", b"DENIED", b"BUSY"):
            self.known.append(Known(ask, token))

    def _pick(self) -> Known | None:
        # What is open rather, else what came last, and now and then what is long over.
        holds = self.twin.org.holds
        recent = [known for known in self.known[-30:] if known.ask.id in holds] or self.known[-6:]
        chosen = self.known if self._one_in(4) else recent
        return self.dice.choice(chosen) if chosen else None

    def _token(self, known: Known) -> str:
        # What the spool of a gateway that is gone keeps, or nothing.
        return "" if self._one_in(4) else known.token

    def _at(self, now_ms: int) -> None:
        # A gateway reads the marker of the store every second.
        if now_ms - self.twin.org.now_ms >= 1000:
            for gateway in self.gateways:
                gateway.follow()
        self.twin.at(now_ms)


# How often each step comes, by weight.
WEIGHTS: dict[Callable[[Walk], None], int] = {
    Walk.reserve: 36,
    Walk.repeat: 5,
    Walk.stray: 2,
    Walk.settle: 15,
    Walk.release: 6,
    Walk.extend: 8,
    Walk.resume: 8,
    Walk.forget: 4,
    Walk.write: 1,
    Walk.restart: 1,
    Walk.rebuild: 1,
    Walk.sweep: 6,
    Walk.tick: 7,
    Walk.jump: 1,
    Walk.limit: 4,
    Walk.setting: 4,
    Walk.mend: 3,
    Walk.zone: 2,
    Walk.key: 2,
    Walk.billing: 1,
    Walk.credit: 3,
    Walk.correct: 2,
    Walk.repair: 1,
    Walk.look: 1,
    Walk.bad: 1,
}
_STEPS = [step for step, weight in WEIGHTS.items() for _ in range(weight)]
