"""Budgets: what a chain says to an amount, what is noted of it, and the rules of traffic."""

from collections.abc import Sequence
from typing import NamedTuple, cast

from gateway.domain.budget import Budget, Invalid, chain_of, field_of
from gateway.domain.money import microcents_from_cents
from gateway.domain.window import WindowKind
from tests.model.arguments import CAP
from tests.model.org import Org, Origin

Answer = list[str | int]
_BP = 10_000


class Stand(NamedTuple):
    """A budget with the counters of its scope in one window, before an amount is held."""

    budget: Budget
    window: str
    spent: int
    held: int
    credit: int

    @property
    def limit(self) -> int:
        """The limit with its credit."""
        return self.budget.limit_microcents + self.credit

    def left(self, amount: int, own: int = 0) -> int:
        """What is available with an amount held in place of what is its own already."""
        return self.limit - self.spent - self.held + own - amount

    def is_past_warning(self, more: int) -> bool:
        """Whether spent and held, and more on top, reach the share that warns."""
        used = self.spent + self.held + more
        return used > 0 and used >= self.limit * self.budget.warn_at_bp // _BP


def chain_at(
    org: Org, agent: str, kinds: Sequence[str], now_ms: int
) -> tuple[Budget, ...] | Answer:
    """Return the budgets of a call, or the refusal of limits that are malformed or frozen."""
    chain = chain_of(org.limits, agent, cast(Sequence[WindowKind], kinds), now_ms)
    if isinstance(chain, Invalid):
        return ["LIMITS_INVALID", chain.field]
    scope = f"agent.{agent}"
    if org.limits["status"] == "frozen":
        return ["FROZEN", "org"]
    if org.limits.get(field_of(org.limits, scope, "status")) == "frozen":
        return ["FROZEN", scope]
    if org.meta.get("billing_status") == "frozen":
        return ["FROZEN", "billing"]
    return chain


def stands_of(org: Org, chain: Sequence[Budget], windows: str) -> list[Stand]:
    """Return the budgets of a chain with their counters in the windows of a call."""
    of_kind = {window.partition(":")[0]: window for window in windows.split(",")}
    return [_stand(org, budget, of_kind[budget.window]) for budget in chain]


def _stand(org: Org, budget: Budget, window: str) -> Stand:
    fields, scope = org.spend.get(window, {}), budget.scope
    numbers = (fields.get(f"{scope}.{name}", 0) for name in ("spent", "held", "credit"))
    return Stand(budget, window, *numbers)


def near_cap(org: Org, windows: str, amount: int) -> Stand | None:
    """Return what stands for the last window in which an amount would lose cents."""
    found = None
    for window in windows.split(","):
        fields = org.spend.get(window, {})
        used = fields.get("org.held", 0) + fields.get("org.spent", 0)
        if used + amount > CAP:
            found = Stand(Budget("org", "total", CAP, "hard", 8_000), window, used, 0, 0)
    return found


def refusing(
    stands: Sequence[Stand], capped: Stand | None, amount: int, own: int = 0
) -> tuple[str, Stand] | None:
    """Return the word and the budget that refuse an amount, of which own is held already."""
    hard = [stand for stand in stands if stand.budget.mode == "hard"]
    full = [stand for stand in hard if amount > 0 > stand.left(amount, own)]
    spent = [stand for stand in full if stand.limit - stand.spent - amount < 0]
    if spent:
        return "DENIED", spent[0]
    if full:
        return "BUSY", full[0]
    return ("DENIED", capped) if capped else None


def denial(word: str, stand: Stand, ends_ms: int) -> Answer:
    """Return a refusal with its numbers."""
    numbers = (stand.budget.limit_microcents, stand.credit, stand.spent, stand.held, ends_ms)
    return [word, stand.budget.name, *map(str, numbers)]


def tightest(stands: Sequence[Stand], amount: int, own: int = 0) -> Stand | None:
    """Return the budget with the least left; shadow budgets are not told."""
    told = [stand for stand in stands if stand.budget.mode != "shadow"]
    return min(told, key=lambda stand: stand.left(amount, own), default=None)


def notice(org: Org, stand: Stand, mark: str, origin: Origin) -> bool:
    """Append an alert the first time that a budget meets a limit; say whether it was that."""
    fields, field = org.spend.setdefault(stand.window, {}), f"{stand.budget.scope}.{mark}"
    if fields.get(field) == stand.limit:
        return False
    fields[field] = stand.limit
    kind = f"{stand.budget.window}:"
    ids = [id.removeprefix(kind) for id in origin.windows.split(",") if id.startswith(kind)]
    detail = (
        f'{{"alert":"{mark}","budget":"{stand.budget.name}","window_id":"{"".join(ids)}",'
        f'"mode":"{stand.budget.mode}","limit_microcents":{stand.budget.limit_microcents},'
        f'"credit_microcents":{stand.credit},"spent_microcents":{stand.spent},'
        f'"held_microcents":{stand.held}}}'
    )
    org.append("alert", origin, (0, 0), detail)
    return True


def crossings(
    org: Org, stands: Sequence[Stand], amounts: tuple[int, int], origin: Origin
) -> list[str]:
    """Note what an admission crosses, and return the budgets that it warns of.

    ``amounts`` are all that is held for the call now, and what of it is its own from before.
    """
    amount, own = amounts
    warned = []
    for stand in stands:
        is_full = amount > 0 > stand.left(amount, own)
        if is_full and stand.limit - stand.spent - amount < 0:
            notice(org, stand, "denied", origin)
        is_past = stand.is_past_warning(amount - own)
        if is_past:
            notice(org, stand, "warned", origin)
        if (is_past or is_full) and stand.budget.mode != "shadow":
            warned.append(stand.budget.name)
    return warned


def note_overage(org: Org, origin: Origin) -> None:
    """Note the warnings that are crossed where spent grew without a reserve."""
    kinds = [window.partition(":")[0] for window in origin.windows.split(",")]
    known = cast(Sequence[WindowKind], kinds)
    chain = chain_of(org.limits, origin.agent, known, origin.at_ms)
    if isinstance(chain, Invalid):
        return
    for stand in stands_of(org, chain, origin.windows):
        if stand.window in org.spend and stand.is_past_warning(0):
            notice(org, stand, "warned", origin)


def above_call_ceiling(org: Org, agent: str, amount: int) -> Answer | None:
    """Return the refusal of an amount above what one call may cost."""
    for scope in ("org", f"agent.{agent}"):
        ceiling = _rule(org, scope, "per_call_cents")
        if ceiling is not None and amount > ceiling:
            return ["PER_CALL", scope, str(ceiling)]
    return None


def traffic(org: Org, agent: str, now_ms: int) -> Answer | dict[str, int]:
    """Return the refusal by concurrency or rate, or the arrivals that an admission leaves."""
    own = f"agent.{agent}"
    opens = {"org": len(org.holds), own: org.rate.get(f"{own}.open", 0)}
    for scope, count in opens.items():
        most = _rule(org, scope, "concurrency")
        if most is not None and (count + 1) * 10**6 > most:
            return ["CONCURRENCY", scope, most // 10**6]
    arrivals = {}
    for scope in opens:
        rate = _rule(org, scope, "rpm")
        if rate is None:
            continue
        field = f"{scope}.arrival_us"
        arrival_us, retry_ms = _next_arrival(org.rate.get(field, 0), now_ms * 1000, rate)
        if retry_ms:
            return ["RATE", scope, retry_ms]
        arrivals[field] = arrival_us
    return arrivals


def _next_arrival(last_us: int, now_us: int, rate: int) -> tuple[int, int]:
    if rate == 0:
        return 0, 60_000
    interval_us = 60_000_000 * 10**6 // rate
    arrival_us = max(last_us, now_us) + interval_us
    excess_us = arrival_us - now_us - max(60_000_000, interval_us)
    return arrival_us, max(0, -(-excess_us // 1000))


def _rule(org: Org, scope: str, rule: str) -> int | None:
    text = org.limits.get(field_of(org.limits, scope, rule), "none")
    return microcents_from_cents(text)
