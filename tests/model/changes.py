"""Changes: credit, correct and repair, each applied once; and inspect, which changes nothing."""

from tests.model.arguments import CAP, bad_argument, is_signed
from tests.model.budgets import Answer, note_overage
from tests.model.calls import Correct, Credit, Inspect, Repair
from tests.model.org import Org, Origin, fits, open_windows


def credit(org: Org, call: Credit) -> Answer:
    """Raise or lower what one budget may spend in one window; spent stays."""
    now_ms = org.clamped_ms
    return [*_credit(org, call, now_ms), org.seq, now_ms]


def _credit(org: Org, call: Credit, now_ms: int) -> Answer:
    bad = bad_argument(call)
    if bad:
        return ["BADARG", bad]
    if call.id in org.applied:
        return ["DONE"]
    if "schema" not in org.meta:
        return ["COLD"]
    is_total = call.window == "total"
    if not is_total and not (call.proposal and fits(org, call.proposal, call.zone, now_ms)):
        return ["GONE"]
    amount, field = int(call.amount_microcents), f"{call.scope}.credit"
    credited = org.spend.get(call.window, {}).get(field, 0) + amount
    if abs(credited) > CAP:
        return ["BADARG", "amount_microcents"]
    org.apply(call.id, call.amount_microcents)
    # One window opens alone here, so the next reserve looks at each of its bounds again.
    open_windows(org, call.proposal, call.zone, "")
    org.spend.setdefault(call.window, {})[field] = credited
    org.keep_counters(call.window, call.proposal)
    agent = call.scope.removeprefix("agent.") if call.scope != "org" else ""
    origin = Origin(call.id, agent, call.reserved_ms, now_ms, call.window, call.epoch)
    org.append("credit", origin, (amount, amount), f'{{"scope":"{call.scope}"}}', call.id)
    org.wrote()
    return ["OK"]


def correct(org: Org, call: Correct) -> Answer:
    """Change the billable spend of one reservation in all of its windows."""
    return [*_correct(org, call), org.seq, org.now_ms]


def _correct(org: Org, call: Correct) -> Answer:
    bad = bad_argument(call)
    if bad:
        return ["BADARG", bad]
    if call.id in org.applied:
        return ["DONE"]
    amount = int(call.amount_microcents)
    org.apply(call.id, call.amount_microcents)
    org.end_money(call.windows, call.agent, 0, amount)
    own = (call.reservation_id, call.agent, call.reserved_ms)
    origin = Origin(*own, org.now_ms, call.windows, call.epoch)
    org.append("correct", origin, (amount, amount), call.detail, call.id)
    if amount > 0:
        note_overage(org, origin)
    org.wrote()
    return ["OK"]


def repair(org: Org, call: Repair) -> Answer:
    """Make counters equal the ledger, without a journal entry."""
    return [*_repair(org, call), org.seq, org.now_ms]


def _repair(org: Org, call: Repair) -> Answer:
    if not all(is_signed(amount) for _, _, amount in call.changes):
        return ["BADARG", "changes"]
    if call.id in org.applied:
        return ["DONE"]
    org.apply(call.id, "1")
    for window, field, amount in call.changes:
        is_there = window in org.spend
        proposal = org.proposal_of(window)
        if is_there or proposal:
            fields = org.spend.setdefault(window, {})
            fields[field] = fields.get(field, 0) + int(amount)
        if not is_there:
            org.keep_counters(window, proposal)
    org.wrote()
    return ["OK"]


def inspect(org: Org, call: Inspect) -> Answer:
    """Look at counters; the last journal id is the store's own and left out."""
    groups: Answer = []
    for window in call.windows.split(","):
        fields = sorted(org.spend.get(window, {}).items())
        groups += [len(fields), *(str(part) for field in fields for part in field)]
    return ["OK", "", *groups, org.seq, org.now_ms]
