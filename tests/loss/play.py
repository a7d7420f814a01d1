"""One round: two orgs use up tight budgets, and on the way Redis forgets."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from gateway.budgets.keys import NODE, spend_keys
from gateway.registry.limits import set_limits
from tests.loss.bill import USUAL_S
from tests.loss.books import settled
from tests.loss.callers import CALLERS, Callers
from tests.loss.deployment import AUTHOR, Deployment
from tests.loss.judgement import Killed, Round, judged
from tests.loss.limit import Limit, fields
from tests.loss.losing import LastWords, copy_of, empty, restore
from tests.loss.watch import watching
from tests.until import until

# So long calls take that are open when Redis forgets: some outlast its recovery.
_LINGER_S = 5.0
_OPEN_MIN = CALLERS // 2
_USED_UP_S = 90.0


class Plan(NamedTuple):
    """What a round is made of; all else comes of its seed."""

    loss: Literal["older file", "emptied"]
    seed: int
    kills: bool = False


async def play(there: Deployment, plan: Plan) -> Round:
    """Play one round.

    Raises:
        AssertionError: something did not come back.
    """
    chance = random.Random(f"{plan}")
    copy = await _copied(there) if plan.loss == "older file" and chance.random() < 0.2 else None
    name = f"{plan.loss[:5]}-{'kill-' if plan.kills else ''}{plan.seed}"
    # One that will be lowered is so wide that nothing meets it before.
    wide = chance.choice([1, 3])
    limits = {
        f"{name}-{part}": Limit.of(chance.randrange(120, 260) * wide * 1_000_000) for part in "ab"
    }
    keys = {org: await there.add(org, fields(limit)) for org, limit in limits.items()}
    async with watching(there.redis.url, limits) as watch:
        callers = Callers(there, keys, plan.seed)
        copied_at = chance.uniform(0.05, 0.5) / wide
        await until(lambda: _share(there, limits) > copied_at, "a share to be spent", 60.0)
        if plan.loss == "older file" and copy is None:
            copy = await _copied(there)
        if wide > 1:
            for org in limits:
                limits[org] = await _lowered(there, org, chance)
            watch.limits.update(limits)
        struck_at = max(copied_at, chance.uniform(0.4, 0.95))
        await until(lambda: _share(there, limits) > struck_at, "more to be spent", 60.0)
        there.bill.longest_s = _LINGER_S
        refused = callers.refused()
        await until(
            lambda: there.upstream.busy >= _OPEN_MIN or callers.refused() > refused,
            "many calls to be open, or as many as there is room for",
            60.0,
        )
        killed, last = await _strike(there, callers, plan, chance, copy)
        there.bill.longest_s = USUAL_S
        await _used_up(there, callers, limits)
        await settled(there.clients)
        # What a hold that outlived its gateway kept closed is open now.
        await _used_up(there, callers, limits)
        await callers.stop()
    if killed is not None:
        there.gateways[killed.gateway].start()
        await there.gateways[killed.gateway].ready()
    await settled(there.clients)
    return await judged(there, callers, watch, limits, killed, last)


async def _strike(
    there: Deployment, callers: Callers, plan: Plan, chance: random.Random, copy: Path | None
) -> tuple[Killed | None, LastWords]:
    killed = None
    if plan.kills:
        number = chance.randrange(len(there.gateways))
        there.gateways[number].end()
        killed = Killed(number, {m for m in callers.open if callers.made[m].gateway == number})
    if copy is not None:
        return killed, await restore(there, copy)
    return killed, await empty(there, chance.choice([0.0, 0.0, chance.uniform(0, 1.5)]))


async def _copied(there: Deployment) -> Path:
    async def is_whole() -> bool:
        info = await there.clients.redis.info("persistence")
        return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]

    await until(is_whole, "the file to be rewritten")
    return copy_of(there)


async def _used_up(there: Deployment, callers: Callers, limits: Mapping[str, Limit]) -> None:
    callers.used_up.clear()
    try:
        await until(lambda: callers.used_up >= set(limits), "budgets to be used up", _USED_UP_S)
    except AssertionError as error:
        marker = await there.clients.redis.hgetall(NODE)
        raise AssertionError(f"{error} {callers.statuses()} {marker}") from error


def _share(there: Deployment, limits: Mapping[str, Limit]) -> float:
    """Return the share of its limit that the slower org has spent."""
    return min(there.bill.cost(org) / limit.org for org, limit in limits.items())


async def _lowered(there: Deployment, org: str, chance: random.Random) -> Limit:
    """Lower the limits of an org to so much more than it uses that nothing is above them then."""
    used = await there.clients.redis.hgetall(*spend_keys(org, "total"))
    more = chance.randrange(60, 120) * 1_000_000
    whole, large = (
        sum(int(used.get(f"{scope}.{name}", 0)) for name in ("spent", "held"))
        for scope in ("org", "agent.large")
    )
    limit = Limit(whole + more, large + more * 9 // 10)
    await set_limits(there.clients, org, fields(limit), AUTHOR)
    return limit
