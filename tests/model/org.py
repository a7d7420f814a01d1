"""One org as a store keeps it: counters, holds, ends, marks, entries, and when they leave."""

import re
from collections.abc import Iterator
from typing import NamedTuple, cast

from gateway.budgets.keys import EXPIRY, JOURNAL, org_key
from gateway.domain.window import Window, WindowKind
from tests.model.calls import ORG

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
END_TTL_MS = 900_000
# Days that the counters of a window are kept after its end.
_KEPT_DAYS = {"hour": 2, "day": 2, "week": 40, "month": 40}
_WINDOW = re.compile(r"([a-z]+)\|([0-9A-Za-z-]+)\|([0-9]+)\|([0-9]+)")

Fields = dict[str, str]
Entry = tuple[str, ...]
ENTRY_FIELDS = (
    "kind",
    "id",
    "entry_id",
    "org",
    "agent",
    "amount",
    "counted",
    "reserved_ms",
    "at_ms",
    "windows",
    "epoch",
    "detail",
)


class Hold(NamedTuple):
    """An open reservation."""

    amount: int
    owner: str
    agent: str
    key_id: str
    reserved_ms: str
    deadline_ms: int
    body: str
    idem: str
    windows: str


class End(NamedTuple):
    """How a reservation ended."""

    state: str
    quote: int
    actual: int
    counted: int
    reserved_ms: str
    end_ms: int
    owner: str
    agent: str
    windows: str


class Claim(NamedTuple):
    """Which reservation has an idempotency key."""

    id: str
    body: str
    state: str
    cost: int


class Origin(NamedTuple):
    """What every journal entry says of the call that it comes from."""

    id: str
    agent: str
    reserved_ms: str
    at_ms: int
    windows: str
    epoch: str


class Org:
    """All that a store knows of one org."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.limits: Fields = {}
        self.meta: Fields = {"schema": "1"}
        self.keys: Fields = {}
        self.holds: dict[str, Hold] = {}
        self.done: dict[str, End] = {}
        self.applied: Fields = {}
        self.idem: dict[str, Claim] = {}
        self.rate: dict[str, int] = {}
        self.spend: dict[str, dict[str, int]] = {}
        self.journal: list[Entry] = []
        self.running: dict[WindowKind, Window] = {}
        # The proposal that opened the running windows, whole: the same one opens nothing.
        self.running_proposal = ""
        # When a key leaves, and how long it was kept for, 0 where only the instant was set.
        self.leaves: dict[str, tuple[int, int]] = {}

    @property
    def seq(self) -> int:
        """How many writes there were."""
        return int(self.meta.get("seq", "0"))

    @property
    def clamped_ms(self) -> int:
        """The instant of the server, never before the last one that was noted."""
        return max(self.now_ms, int(self.meta.get("now", "0")))

    @property
    def zone(self) -> str:
        """The zone that the next window opens in."""
        return self.limits.get("timezone", "UTC")

    def restore(self, older: "Org") -> None:
        """Hold what older books held, but for what has left since then."""
        vars(self).update(vars(older), now_ms=self.now_ms)
        self.at(self.now_ms)

    def wrote(self) -> int:
        """Count a write, and return the sequence."""
        self.meta["seq"] = str(self.seq + 1)
        return self.seq

    def at(self, now_ms: int) -> list[str]:
        """Move the clock, and return the keys that leave."""
        self.now_ms = now_ms
        gone = [key for key, (at_ms, _) in self.leaves.items() if at_ms < now_ms]
        for key in gone:
            del self.leaves[key]
            kind, _, name = key.removeprefix(org_key(ORG, "")).partition(":")
            getattr(self, kind).pop(name)
        return gone

    def keep(self, key: str, ttl_ms: int) -> None:
        """Let a key leave after a while."""
        self.leaves[org_key(ORG, key)] = self.now_ms + ttl_ms, ttl_ms

    def bury(self, id: str, end: End) -> None:
        """Keep how a reservation ended; an expired one longer, as its settle may be late."""
        self.done[id] = end
        ttl_ms = DAY_MS if end.state == "expired" else END_TTL_MS
        self.keep(f"done:{id}", ttl_ms)

    def apply(self, id: str, text: str) -> None:
        """Remember a change for 7 days."""
        self.applied[id] = text
        self.keep(f"applied:{id}", 7 * DAY_MS)

    def keep_counters(self, window: str, proposal: str) -> None:
        """Keep the counters of a window for some days after its proposed end."""
        kind = window.partition(":")[0]
        ends = {bounds.kind: bounds.end_ms for bounds in read_proposal(proposal)}
        if kind in ends:
            at_ms = ends[kind] + _KEPT_DAYS[kind] * DAY_MS
            self.leaves[org_key(ORG, f"spend:{window}")] = at_ms, 0

    def proposal_of(self, packed: str) -> str:
        """Return a running window as it was proposed, empty for one that does not run."""
        kind, _, id = packed.partition(":")
        if kind == "total":
            return "total"
        window = self.running.get(cast(WindowKind, kind))
        if window is None or window.id != id:
            return ""
        return f"{kind}|{id}|{window.start_ms}|{window.end_ms}"

    def hold_money(self, windows: str, agent: str, amount: int) -> None:
        """Hold an amount in the counters of both scopes in every window."""
        for window in windows.split(","):
            fields = self.spend.setdefault(window, {})
            for scope in ("org", f"agent.{agent}"):
                fields[f"{scope}.held"] = fields.get(f"{scope}.held", 0) + amount

    def end_money(self, windows: str, agent: str, held: int, spent: int) -> None:
        """Change the counters at an end; those that left do not come back."""
        for window in windows.split(","):
            fields = self.spend.get(window, {})
            for scope in ("org", f"agent.{agent}") if window in self.spend else ():
                for name, change in ((f"{scope}.held", -held), (f"{scope}.spent", spent)):
                    if change:
                        fields[name] = fields.get(name, 0) + change

    def count_open(self, agent: str, change: int) -> None:
        """Count the open calls of an agent."""
        field = f"agent.{agent}.open"
        self.rate[field] = self.rate.get(field, 0) + change

    def end_claim(self, digest: str, id: str, body: str, state: str, cost: int) -> None:
        """End what an idempotency key says of a reservation; one of another id is left alone."""
        claim = self.idem.get(digest) if digest else None
        if claim is None or claim.id != id:
            return
        if state == "released":
            del self.idem[digest]
            del self.leaves[org_key(ORG, f"idem:{digest}")]
        else:
            self.idem[digest] = Claim(id, body, state, cost)

    def append(
        self, kind: str, origin: Origin, amounts: tuple[int, int], detail: str, entry_id: str = ""
    ) -> None:
        """Append one entry to the journal; ``amounts`` are the amount and what was counted."""
        amount, counted = map(str, amounts)
        times = (origin.reserved_ms, str(origin.at_ms))
        place = (origin.windows, origin.epoch, detail)
        own = (kind, origin.id, entry_id, ORG, origin.agent)
        self.journal.append((*own, amount, counted, *times, *place))

    def contents(self) -> dict[str, object]:
        """Return what the store holds by key, as texts; nothing that only saves time."""
        spend = {
            f"spend:{window}": {name: str(number) for name, number in fields.items()}
            for window, fields in self.spend.items()
        }
        windows = {
            f"{kind}.{name}": str(value)
            for kind, window in self.running.items()
            for name, value in (
                ("id", window.id),
                ("start", window.start_ms),
                ("end", window.end_ms),
            )
        }
        own: dict[str, object] = {
            "limits": self.limits,
            "meta": self.meta | windows,
            "keys": self.keys,
            "holds": {id: _packed(hold) for id, hold in self.holds.items()},
            "rate": {name: str(number) for name, number in self.rate.items()},
            **spend,
            **{f"done:{id}": _packed(end) for id, end in self.done.items()},
            **{f"applied:{id}": text for id, text in self.applied.items()},
            **{f"idem:{digest}": "|".join(map(str, it)) for digest, it in self.idem.items()},
        }
        node = {
            EXPIRY: {f"{ORG}|{id}": str(hold.deadline_ms) for id, hold in self.holds.items()},
            JOURNAL: self.journal,
        }
        kept = {org_key(ORG, name): value for name, value in own.items()} | node
        return {key: value for key, value in kept.items() if value}


def read_proposal(proposal: str) -> Iterator[Window]:
    """Yield the windows of a packed proposal."""
    for kind, id, start_ms, end_ms in _WINDOW.findall(proposal):
        yield Window(cast(WindowKind, kind), id, int(start_ms), int(end_ms))


def fits(org: Org, proposal: str, zone: str, now_ms: int) -> bool:
    """Whether the proposed windows are the running ones, or may open after those."""
    for window in read_proposal(proposal):
        running = org.running.get(window.kind)
        ended_ms = running.end_ms if running else 0
        is_current = zone == org.zone and window.start_ms <= now_ms < window.end_ms
        if window != running if now_ms < ended_ms else window.start_ms < ended_ms or not is_current:
            return False
    return True


def open_windows(org: Org, proposal: str, zone: str, running_proposal: str) -> None:
    """Let the proposed windows run from now on."""
    for window in read_proposal(proposal):
        org.running[window.kind] = window
        org.meta["zone"] = zone
    org.running_proposal = running_proposal


def _packed(record: Hold | End) -> str:
    return "|".join(("1", *map(str, record)))
