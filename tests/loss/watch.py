"""The watch over tight budgets: while calls are admitted, spent and held are within the limit."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.budgets.keys import NODE, spend_keys
from tests.campaign.looking import looking
from tests.loss.limit import Limit

_EVERY_S = 0.03


class Watch:
    """``limits`` are those of each org; ``over`` how many microcents were above at an instant.

    It looks at one instant at a time. Redis admits nothing while its marker is missing or names
    another start of the server, or a loss.
    """

    def __init__(self, redis: Any, limits: Mapping[str, Limit]) -> None:
        self.looks = 0
        self.over: dict[str, int] = {}
        self._redis = redis
        self.limits = {**limits}

    async def look(self) -> None:
        """Look once."""
        month = f"month:{datetime.now(UTC):%Y-%m}"
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.info("server")
                pipe.hmget(NODE, "ready", "life", "lost")
                for org in self.limits:
                    pipe.hmget(*spend_keys(org, month), "org.spent", "org.held", "org.credit")
                server, (ready, life, lost), *found = await pipe.execute()
        except (RedisError, OSError):
            return
        if ready != "1" or life != server["run_id"] or lost:
            return
        self.looks += 1
        for org, values in zip(self.limits, found, strict=True):
            spent, held, credit = (int(value or 0) for value in values)
            over = spent + held - self.limits[org].org - credit
            if over > 0:
                self.over[org] = max(over, self.over.get(org, 0))


@asynccontextmanager
async def watching(redis_url: str, limits: Mapping[str, Limit]) -> AsyncIterator[Watch]:
    """Watch for as long as this block runs."""
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        watch = Watch(redis, limits)
        async with looking(watch.look, _EVERY_S):
            yield watch
