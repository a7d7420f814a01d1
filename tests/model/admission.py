"""Admission: reserve and extend, the two verbs that hold money."""

from gateway.domain.budget import Budget
from gateway.domain.window import WindowKind
from tests.model.arguments import bad_argument
from tests.model.budgets import (
    Answer,
    Stand,
    above_call_ceiling,
    chain_at,
    crossings,
    denial,
    near_cap,
    notice,
    refusing,
    stands_of,
    tightest,
    traffic,
)
from tests.model.calls import Extend, Reserve
from tests.model.keys import find_key
from tests.model.org import DAY_MS, Claim, Hold, Org, Origin, fits, open_windows, read_proposal

CLOCK_SKEW_MAX_MS = 300_000


def reserve(org: Org, call: Reserve) -> Answer:
    """Hold an amount on every budget of the chain, or on none of them."""
    now_ms = org.clamped_ms
    strange = _stranger(org, call, now_ms)
    if strange:
        # Nothing of the org is looked at for these, and so neither is the instant that it noted.
        return [*strange, org.seq, org.now_ms]
    answer = _known(org, call) or _admit(org, call, now_ms)
    return [*answer, org.seq, now_ms]


def _stranger(org: Org, call: Reserve, now_ms: int) -> Answer | None:
    bad = bad_argument(call)
    if bad:
        return ["BADARG", bad]
    skews = (int(org.meta.get("now", "0")) - org.now_ms, abs(int(call.reserved_ms) - org.now_ms))
    if max(skews) > CLOCK_SKEW_MAX_MS:
        return ["CLOCK"]
    if "schema" not in org.meta or org.meta.get("epoch", call.epoch) != call.epoch:
        return ["COLD"]
    status, _, _ = find_key(org, call.key_digest, call.agent, now_ms)
    return [status] if status != "OK" else None


def _known(org: Org, call: Reserve) -> Answer | None:
    end, hold = org.done.get(call.id), org.holds.get(call.id)
    if end:
        amounts = (str(end.quote), str(end.actual), end.reserved_ms, str(end.end_ms))
        return ["DONE", end.state, *amounts, end.owner, end.agent]
    if hold:
        is_same = (hold.agent, hold.body) == (call.agent, call.body_digest)
        if not is_same or int(call.amount_microcents) > hold.amount:
            return ["MISMATCH"]
        return ["HELD", str(hold.deadline_ms), hold.windows, "", "0", "0", ""]
    claim = org.idem.get(call.idem_digest) if call.idem_digest else None
    return ["IDEMPOTENT", claim.id, claim.body, claim.state, str(claim.cost)] if claim else None


def _admit(org: Org, call: Reserve, now_ms: int) -> Answer:
    chain = chain_at(org, call.agent, call.kinds, now_ms)
    if isinstance(chain, list):
        return chain
    runs = org.running_proposal == call.proposal and all(
        now_ms < window.end_ms for window in org.running.values()
    )
    if not runs and not fits(org, call.proposal, call.zone, now_ms):
        return ["WINDOW", org.zone, *_running(org, call)]
    if len(org.journal) >= int(call.journal_entries_max):
        return ["JOURNAL_FULL"]
    amount = int(call.amount_microcents)
    above = above_call_ceiling(org, call.agent, amount)
    if above:
        return above
    stands = stands_of(org, chain, call.windows)
    origin = Origin(call.id, call.agent, call.reserved_ms, now_ms, call.windows, call.epoch)
    refused = refusing(stands, near_cap(org, call.windows, amount), amount)
    if refused:
        word, stand = refused
        if word == "DENIED" and notice(org, stand, "denied", origin):
            if stand.window.startswith(stand.budget.window):
                org.keep_counters(stand.window, call.proposal)
            org.wrote()
        return denial(word, stand, _close(call.proposal, stand.budget.window))
    arrivals = traffic(org, call.agent, now_ms)
    if not isinstance(arrivals, dict):
        return arrivals
    if not runs:
        open_windows(org, call.proposal, call.zone, call.proposal)
    return _hold(org, call, now_ms, stands, (origin, arrivals, not runs))


def _hold(
    org: Org,
    call: Reserve,
    now_ms: int,
    stands: list[Stand],
    more: tuple[Origin, dict[str, int], bool],
) -> Answer:
    origin, arrivals, opens = more
    amount = int(call.amount_microcents)
    missing = [
        window
        for window in call.windows.split(",")
        if opens or "org.held" not in org.spend.get(window, {})
    ]
    ttl_ms = int(call.ttl_ms) or int(org.limits.get("hold_ttl_ms", call.default_ttl_ms))
    _, key_id, _ = find_key(org, call.key_digest, call.agent, now_ms)
    own = (call.owner, call.agent, key_id, call.reserved_ms, now_ms + ttl_ms)
    digests = (call.body_digest, call.idem_digest)
    org.holds[call.id] = hold = Hold(amount, *own, *digests, call.windows)
    org.hold_money(call.windows, call.agent, amount)
    for window in missing:
        org.keep_counters(window, call.proposal)
    org.count_open(call.agent, 1)
    org.rate |= arrivals
    if call.idem_digest:
        org.idem[call.idem_digest] = Claim(call.id, call.body_digest, "held", 0)
        org.keep(f"idem:{call.idem_digest}", DAY_MS)
    if now_ms - int(org.meta.get("now", "0")) >= 1000:
        org.meta["now"] = str(now_ms)
    org.wrote()
    warned = crossings(org, stands, (amount, 0), origin)
    return _held(hold, tightest(stands, amount), (amount, 0), call.proposal, warned)


def extend(org: Org, call: Extend) -> Answer:
    """Raise a hold to an absolute amount and keep it for longer; never less of either."""
    return [*_extend(org, call), org.seq, org.now_ms]


def _extend(org: Org, call: Extend) -> Answer:
    bad = bad_argument(call)
    if bad:
        return ["BADARG", bad]
    hold = org.holds.get(call.id)
    if hold is None:
        return ["GONE"]
    if hold.windows != call.windows:
        return ["WINDOWS", hold.windows, hold.idem]
    deadline_ms = max(hold.deadline_ms, org.now_ms + int(call.ttl_ms))
    target = int(call.target_microcents)
    if target <= hold.amount:
        org.holds[call.id] = hold = hold._replace(deadline_ms=deadline_ms)
        org.wrote()
        return _held(hold, None, (0, 0), "", [])
    kinds = [window.partition(":")[0] for window in hold.windows.split(",")]
    chain = chain_at(org, hold.agent, kinds, org.now_ms)
    if isinstance(chain, list):
        return chain
    above = above_call_ceiling(org, hold.agent, target)
    if above:
        return above
    return _raise(org, call, hold._replace(deadline_ms=deadline_ms), chain)


def _raise(org: Org, call: Extend, hold: Hold, chain: tuple[Budget, ...]) -> Answer:
    target, own = int(call.target_microcents), hold.amount
    stands = stands_of(org, chain, hold.windows)
    origin = Origin(call.id, hold.agent, hold.reserved_ms, org.now_ms, hold.windows, call.epoch)
    bounds = _running_bounds(org, hold.windows)
    refused = refusing(stands, near_cap(org, hold.windows, target - own), target, own)
    if refused:
        word, stand = refused
        is_kept = "org.held" in org.spend.get(stand.window, {})
        if word == "DENIED" and is_kept and notice(org, stand, "denied", origin):
            org.wrote()
        return denial(word, stand, _close(bounds, stand.budget.window))
    # Counters that left by their TTL are neither brought back nor marked.
    kept = [window for window in hold.windows.split(",") if window in org.spend]
    if kept:
        org.hold_money(",".join(kept), hold.agent, target - own)
    marked = [stand for stand in stands if stand.window in kept]
    warned = crossings(org, marked, (target, own), origin)
    org.holds[call.id] = hold = hold._replace(amount=target)
    org.wrote()
    return _held(hold, tightest(stands, target, own), (target, own), bounds, warned)


def _held(
    hold: Hold, stand: Stand | None, amounts: tuple[int, int], bounds: str, warned: list[str]
) -> Answer:
    told = ["", "0", "0"]
    if stand:
        ends_ms = _close(bounds, stand.budget.window)
        told = [stand.budget.name, str(stand.left(*amounts)), str(ends_ms)]
    return ["HELD", str(hold.deadline_ms), hold.windows, *told, ",".join(warned)]


def _running(org: Org, call: Reserve) -> Answer:
    flat: Answer = []
    for window in read_proposal(call.proposal):
        running = org.running.get(window.kind)
        bounds = (running.id, running.start_ms, running.end_ms) if running else ("", 0, 0)
        flat += [window.kind, *map(str, bounds)]
    return flat


def _running_bounds(org: Org, windows: str) -> str:
    return ",".join(
        f"{window.kind}|{window.id}|{window.start_ms}|{window.end_ms}"
        for window in org.running.values()
        if f"{window.kind}:{window.id}" in windows.split(",")
    )


def _close(bounds: str, kind: WindowKind) -> int:
    return next((each.end_ms for each in read_proposal(bounds) if each.kind == kind), 0)
