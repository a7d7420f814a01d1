"""Resumption: resume, which holds again what was granted before the store forgot it."""

from typing import cast

from gateway.budgets.keys import org_key
from gateway.domain.window import WindowKind
from tests.model.arguments import bad_argument
from tests.model.budgets import Answer
from tests.model.calls import ORG, Resume
from tests.model.org import DAY_MS, Claim, Hold, Org


def resume(org: Org, call: Resume) -> Answer:
    """Hold again, or raise what is held to what is told; no budget is asked."""
    return [*_resume(org, call), org.seq, org.now_ms]


def _resume(org: Org, call: Resume) -> Answer:
    bad = bad_argument(call)
    if bad:
        return ["BADARG", bad]
    if "schema" not in org.meta:
        return ["COLD"]
    end, hold = org.done.get(call.id), org.holds.get(call.id)
    if end:
        return ["DONE", end.state]
    if hold:
        return ["HELD", str(_raised(org, call, hold).deadline_ms)]
    return ["RESUMED", str(_held(org, call).deadline_ms)]


def _raised(org: Org, call: Resume, hold: Hold) -> Hold:
    amount = max(hold.amount, int(call.amount_microcents))
    deadline_ms = max(hold.deadline_ms, org.now_ms + int(call.ttl_ms))
    raised = hold._replace(amount=amount, deadline_ms=deadline_ms)
    if hold.windows != call.windows or raised == hold:
        return hold
    # Counters that left by their TTL are not brought back.
    kept = [window for window in hold.windows.split(",") if window in org.spend]
    if kept and amount > hold.amount:
        org.hold_money(",".join(kept), hold.agent, amount - hold.amount)
    org.holds[call.id] = raised
    org.wrote()
    return raised


def _held(org: Org, call: Resume) -> Hold:
    own = (call.owner, call.agent, call.key_id, call.reserved_ms, org.now_ms + int(call.ttl_ms))
    digests = (call.body_digest, call.idem_digest)
    hold = Hold(int(call.amount_microcents), *own, *digests, call.windows)
    org.holds[call.id] = hold
    missing = [window for window in call.windows.split(",") if window not in org.spend]
    org.hold_money(call.windows, call.agent, hold.amount)
    for window in missing:
        _keep(org, window)
    org.count_open(call.agent, 1)
    if call.idem_digest and call.idem_digest not in org.idem:
        org.idem[call.idem_digest] = Claim(call.id, call.body_digest, "held", 0)
        org.keep(f"idem:{call.idem_digest}", DAY_MS)
    org.wrote()
    return hold


def _keep(org: Org, packed: str) -> None:
    kind, _, id = packed.partition(":")
    if kind == "total":
        return
    running = org.running.get(cast(WindowKind, kind))
    end_ms = running.end_ms if running and running.id == id else 0
    # Of a window that runs no more the end is not known.
    days = 2 if kind in ("hour", "day") and end_ms else 40
    at_ms = max(end_ms, org.now_ms) + days * DAY_MS
    org.leaves[org_key(ORG, f"spend:{packed}")] = at_ms, 0
