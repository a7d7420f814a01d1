"""The beat: a number that rises in Redis and is kept in Postgres.

A Redis that has a smaller one was started from an older file, also where no call of any org has
ended since: then neither a sequence nor a counter tells that limits are not what they were.
"""

from redis.exceptions import WatchError

from gateway.budgets.keys import NODE
from gateway.registry.clients import Clients

FIELD = "beat"
_KEEP = "UPDATE node_epoch SET beat = $2 WHERE epoch = $1 AND beat < $2"
_KEPT = "SELECT beat FROM node_epoch WHERE epoch = $1"


async def beat(clients: Clients) -> None:
    """Let it rise, in Redis first; where the marker is not ready, or changes meanwhile, it stays.

    To be called after whatever must not be forgotten has been written to both stores.
    """
    async with clients.redis.pipeline() as pipe:
        await pipe.watch(NODE)
        ready, epoch = await pipe.hmget(NODE, "ready", "epoch")
        if ready != "1":
            return
        pipe.multi()
        pipe.hincrby(NODE, FIELD, 1)
        try:
            (number,) = await pipe.execute()
        except WatchError:
            # A gateway's or a worker's sign came in between: the next one is as good.
            return
    await clients.ledger.execute(_KEEP, epoch, number)


async def forgotten_beat(clients: Clients) -> int | None:
    """Return what the number must be, where Redis has a smaller one; or None."""
    epoch, text = await clients.redis.hmget(NODE, "epoch", FIELD)
    kept: int | None = await clients.ledger.fetchval(_KEPT, epoch)
    found = int(text) if text and text.isdecimal() else 0
    return kept if kept is not None and found < kept else None
