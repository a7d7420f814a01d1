"""The watch over the holds: no hold outlives its life by more than the sweeper may take.

It looks all the time. While the worker is away nobody ends a hold, so its time begins anew
whenever the worker is ready again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.campaign.looking import looking

LATE_S_MAX = 2.0
_EVERY_S = 0.1
# A look that took longer has missed something: it may have been a worker that was away.
_GAP_S_MAX = 0.5


class Watch:
    """``late_s`` is for how long a hold was there after its end at most, and ``late`` which."""

    def __init__(self, redis: Any, is_ready: Callable[[], Awaitable[bool]]) -> None:
        self.late_s = 0.0
        self.late = ""
        self.looks = 0
        self._redis = redis
        self._is_ready = is_ready
        self._ready_since_s: float | None = None
        self._looked_s = 0.0

    @property
    def wrong(self) -> list[str]:
        """What should not have been."""
        if self.late_s <= LATE_S_MAX:
            return []
        return [f"{self.late} was held for {self.late_s:.1f} s after the end of its life."]

    async def look(self) -> None:
        """Look once at the hold that should have ended first."""
        try:
            async with asyncio.timeout(_GAP_S_MAX):
                is_ready = await self._is_ready()
                oldest = await self._redis.zrange("bg:expiry", 0, 0, withscores=True)
                seconds, microseconds = await self._redis.time()
        except (RedisError, OSError):
            self._ready_since_s = None
            return
        now_s = seconds + microseconds / 1e6
        if not is_ready or now_s - self._looked_s > _GAP_S_MAX:
            self._ready_since_s = None
        if is_ready and self._ready_since_s is None:
            self._ready_since_s = now_s
        self._looked_s = now_s
        self.looks += 1
        for member, deadline_ms in oldest if self._ready_since_s is not None else ():
            late_s = now_s - max(deadline_ms / 1000, self._ready_since_s)
            if late_s > self.late_s:
                self.late_s, self.late = late_s, member


@asynccontextmanager
async def watching(redis_url: str, is_ready: Callable[[], Awaitable[bool]]) -> AsyncIterator[Watch]:
    """Watch the holds for as long as this block runs."""
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        watch = Watch(redis, is_ready)
        async with looking(watch.look, _EVERY_S):
            yield watch
