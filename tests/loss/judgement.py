"""The judgement of a round: nothing was granted twice, nothing that was answered is lost."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from tests.loss.bill import QUOTES
from tests.loss.books import Books, books
from tests.loss.callers import Callers
from tests.loss.deployment import Deployment
from tests.loss.limit import Limit
from tests.loss.losing import LastWords
from tests.loss.watch import Watch


class Killed(NamedTuple):
    """A gateway that was killed when Redis forgot, and the marks of the calls it had then."""

    gateway: int
    open: set[str]


class Round(NamedTuple):
    """What a round has done; ``wrong`` says what should not be."""

    statuses: Counter[int]
    executed: int
    over_microcents: int
    allowed_microcents: int
    unbooked: int
    looks: int
    wrong: list[str]


async def judged(
    there: Deployment,
    callers: Callers,
    watch: Watch,
    limits: Mapping[str, Limit],
    killed: Killed | None,
    last: LastWords,
) -> Round:
    """Compare everything of a round that has come to its end."""
    wrong, over, allowed, unbooked = list[str](), 0, 0, 0
    for org, limit in limits.items():
        found = await books(there.clients, org)
        answered, lost = _answered(there, callers, org, found, killed, last)
        may_lose = _open_quotes(callers, org, killed) + sum(
            there.bill.items[mark].cost_microcents for mark in lost
        )
        run = there.bill.cost(org)
        wrong += [*found.wrong, *answered, *_amounts(there, org, limit, found, may_lose)]
        if killed is None:
            wrong += _unbooked(there, org, found)
        # A killed gateway does not say which holds of the file had ended: they are held, beside
        # what was booked of them, until they expire.
        if killed is None and org in watch.over:
            wrong.append(f"{org} had {watch.over[org]} above its limit while calls were admitted.")
        unbooked += len(lost)
        over, allowed = max(over, run - limit.org), max(allowed, may_lose)
    executed = sum(item.org in limits for item in there.bill.items.values())
    return Round(callers.statuses(), executed, over, allowed, unbooked, watch.looks, wrong)


def _amounts(there: Deployment, org: str, limit: Limit, found: Books, may_lose: int) -> list[str]:
    """Return each amount that is above its limit, and a limit that was closed too early."""
    wrong = list[str]()
    for agent, most in (("", limit.org), ("large", limit.large)):
        if (run := there.bill.cost(org, agent)) > most + may_lose:
            wrong.append(f"{org} {agent} has run for {run}, above {most} and {may_lose} lost.")
    if found.booked() <= limit.org - QUOTES["small"]:
        wrong.append(f"{org} was closed at {found.booked()} of {limit.org}.")
    return wrong


def _unbooked(there: Deployment, org: str, found: Books) -> list[str]:
    """Return each account that is not what the upstream has run."""
    return [
        f"{org} {agent} has run for {there.bill.cost(org, agent)}, booked is {found.booked(agent)}."
        for agent in ("", *QUOTES)
        if there.bill.cost(org, agent) != found.booked(agent)
    ]


def _open_quotes(callers: Callers, org: str, killed: Killed | None) -> int:
    """Return what the calls that a killed gateway had could cost at most."""
    calls = [callers.made[mark] for mark in killed.open] if killed is not None else []
    return sum(call.quote_microcents for call in calls if call.org == org)


def _answered(
    there: Deployment,
    callers: Callers,
    org: str,
    found: Books,
    killed: Killed | None,
    last: LastWords,
) -> tuple[list[str], set[str]]:
    """Return what is wrong with calls that were answered, and the marks that may be lost."""
    wrong, lost = list[str](), set[str]()
    for told in callers.told:
        made = callers.made[told.mark]
        if made.org != org or told.status != 200:
            continue
        cost, entry = there.bill.items[told.mark].cost_microcents, found.entries.get(told.id)
        if told.cost_microcents != cost:
            wrong.append(f"{told.id} has cost {cost}, and {told.cost_microcents} was told.")
        is_killed = killed is not None and made.gateway == killed.gateway
        if entry is None and is_killed and told.id in last.held | last.journaled:
            lost.add(told.mark)
        elif entry is None:
            wrong.append(f"{told.id} was answered, and is not booked.")
        elif entry.microcents != cost and not (is_killed and entry.is_expired):
            wrong.append(f"{told.id} has cost {cost}, and {entry.microcents} is booked.")
    return wrong, lost
