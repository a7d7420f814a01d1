"""Ends: settle, release and expire, each of which ends a reservation once."""

from tests.model.arguments import bad_argument
from tests.model.budgets import Answer, note_overage
from tests.model.calls import Expire, Release, Settle
from tests.model.org import End, Hold, Org, Origin


def settle(org: Org, call: Settle) -> Answer:
    """Replace a hold by all of the cost; what is not held any more is told apart."""
    bad = bad_argument(call)
    return [*(["BADARG", bad] if bad else _settle(org, call)), org.seq, org.now_ms]


def _settle(org: Org, call: Settle) -> Answer:
    hold, end = org.holds.get(call.id), org.done.get(call.id)
    cost = int(call.amount_microcents)
    if hold:
        if (hold.windows, hold.idem) != (call.windows, call.idem_digest):
            return ["WINDOWS", hold.windows, hold.idem]
        _close(org, call.id)
        over = max(0, cost - hold.amount)
        said = (call, hold.agent, hold.amount, cost)
        _end(org, *said, hold.owner)
        org.end_claim(call.idem_digest, call.id, hold.body, "settled", cost)
        org.end_money(call.windows, hold.agent, hold.amount, cost)
        return _told(org, "SETTLED", said, over, over > 0)
    if end and (end.state == "settled" or (end.state != "expired" and cost == 0)):
        return ["DONE" if end.actual == cost else "DONE_OTHER", str(end.actual), "0"]
    if end and end.windows not in ("", call.windows):
        return ["WINDOWS", end.windows, call.idem_digest]
    if end is None:
        said = (call, call.agent, 0, 0)
        _end(org, *said, "")
        return _told(org, "JOURNALED", said, 0, False)
    status, counted = "LATE", cost - end.actual
    if end.state != "expired":
        are_kept = all(window in org.spend for window in call.windows.split(","))
        status, counted = "VOIDED", cost if are_kept else 0
    said = (call, end.agent, end.quote, counted)
    _end(org, *said, end.owner)
    claim = org.idem.get(call.idem_digest)
    if status == "LATE" and claim:
        org.end_claim(call.idem_digest, call.id, claim.body, "settled", cost)
    org.end_money(call.windows, end.agent, 0, counted)
    return _told(org, status, said, 0, counted > 0)


def _end(org: Org, call: Settle, agent: str, quote: int, counted: int, owner: str) -> None:
    cost = int(call.amount_microcents)
    times = (call.reserved_ms, org.now_ms)
    org.bury(call.id, End("settled", quote, cost, counted, *times, owner, agent, ""))
    org.append("settle", _origin(org, call, agent), (cost, counted), call.detail)


def _told(
    org: Org, status: str, said: tuple[Settle, str, int, int], over: int, grew: bool
) -> Answer:
    call, agent, _, _ = said
    if grew:
        note_overage(org, _origin(org, call, agent))
    org.wrote()
    return [status, call.amount_microcents, str(over)]


def _origin(org: Org, call: Settle, agent: str) -> Origin:
    return Origin(call.id, agent, call.reserved_ms, org.now_ms, call.windows, call.epoch)


def _close(org: Org, id: str) -> Hold:
    hold = org.holds.pop(id)
    org.count_open(hold.agent, -1)
    return hold


def release(org: Org, call: Release) -> Answer:
    """Give a hold back; an unknown id is void, so that a late reserve finds it ended."""
    bad = bad_argument(call)
    return [*(["BADARG", bad] if bad else _release(org, call)), org.seq, org.now_ms]


def _release(org: Org, call: Release) -> Answer:
    hold, end = org.holds.get(call.id), org.done.get(call.id)
    times = (call.reserved_ms, org.now_ms)
    if hold is None and end:
        return ["DONE", end.state, str(end.actual)]
    if hold is None:
        org.bury(call.id, End("void", 0, 0, 0, *times, "", call.agent, ""))
        org.wrote()
        return ["VOID", "void", "0"]
    if (hold.windows, hold.idem) != (call.windows, call.idem_digest):
        return ["WINDOWS", hold.windows, hold.idem]
    _close(org, call.id)
    own = (hold.owner, hold.agent, hold.windows)
    org.bury(call.id, End("released", hold.amount, 0, 0, *times, *own))
    org.end_claim(hold.idem, call.id, hold.body, "released", 0)
    org.end_money(hold.windows, hold.agent, hold.amount, 0)
    org.wrote()
    return ["RELEASED", "released", "0"]


def expire(org: Org, call: Expire) -> Answer:
    """End the holds of a call whose deadline has passed: charge them, or give them back."""
    bad = bad_argument(call)
    if bad:
        return ["BADARG", bad, org.seq, org.now_ms]
    is_open = set(org.holds)
    states = [_expire(org, call, id) for id in call.ids]
    if is_open - set(org.holds):
        org.wrote()
    return ["EXPIRED", *states, org.seq, org.now_ms]


def _expire(org: Org, call: Expire, id: str) -> str:
    hold = org.holds.get(id)
    if hold is None:
        return org.done[id].state if id in org.done else "gone"
    if hold.windows != call.windows:
        return "windows"
    if org.now_ms < hold.deadline_ms:
        return "held"
    state = "released" if org.limits.get("on_expiry") == "release" else "expired"
    charged = 0 if state == "released" else hold.amount
    _close(org, id)
    times, own = (hold.reserved_ms, org.now_ms), (hold.owner, hold.agent, hold.windows)
    org.bury(id, End("expired", hold.amount, charged, charged, *times, *own))
    if hold.idem == call.idem_digest:
        org.end_claim(hold.idem, id, hold.body, state, charged)
    origin = Origin(id, hold.agent, hold.reserved_ms, org.now_ms, hold.windows, call.epoch)
    detail = f'{{"source":"{state}","key_id":"{hold.key_id}"}}'
    org.append("expire", origin, (charged, charged), detail)
    org.end_money(hold.windows, hold.agent, hold.amount, charged)
    return state
