"""The naive gateway: the same scripts behind Starlette, httpx and redis-py.

    BENCH_REDIS_URL=redis://... uvicorn --factory bench.peers.naive:create

What a good engineer writes in an afternoon, with the tuning that one knows: hiredis, uvloop and
httptools are on, connections are pooled and never run out, scripts are called by their SHA, agents
are cached for a second, prices are integers. It leaves out what the gateway must do besides:
deadlines, refused windows, spooling, cancellation, dialects, metrics.
"""

import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import orjson
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from ulid import ULID

from bench.answers import INPUT_MICROCENTS, OUTPUT_MICROCENTS
from gateway.budgets.proposals import Proposals
from gateway.budgets.scripts import load_scripts
from gateway.domain.key import KeyText, read_key

_AGENT_LIFE_S = 1.0
_CONNECTIONS = httpx.Limits(max_connections=1000, max_keepalive_connections=1000)
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "authorization"}


class Call(NamedTuple):
    """What is known of one call from its reserve to its settle."""

    id: str
    reserved_ms: int
    org: str
    agent: str
    key_id: str
    windows: str
    spend_keys: tuple[str, ...]


class Naive:
    """The route and the clients that it uses."""

    def __init__(self, redis: Any, client: httpx.AsyncClient) -> None:
        scripts = load_scripts()
        self._redis = redis
        self._client = client
        self._reserve: AsyncScript = redis.register_script(scripts.reserve.flagged.text)
        self._settle: AsyncScript = redis.register_script(scripts.settle.flagged.text)
        self._agents: dict[tuple[str, str], tuple[float, str]] = {}
        self._proposals = Proposals(("day", "month", "total"))

    async def invoke(self, request: Request) -> Response:
        """Reserve, forward, settle, answer."""
        key = read_key(request.headers.get("authorization", "").removeprefix("Bearer "))
        if key is None:
            return JSONResponse({"error": "unauthenticated"}, 401)
        agent = request.path_params["agent"]
        upstream = await self._upstream(key.org, agent)
        if upstream is None:
            return JSONResponse({"error": "unknown_agent"}, 404)
        body = await request.body()
        message = orjson.loads(body)
        most_output_tokens = message.get("max_tokens", 4096)
        quote = (len(body) + 1) // 2 * INPUT_MICROCENTS + most_output_tokens * OUTPUT_MICROCENTS
        call, refusal = await self._reserved(key, agent, quote, body)
        if refusal:
            return JSONResponse({"error": refusal}, 402)
        answer = await self._client.send(
            self._client.build_request(
                "POST",
                f"{upstream}/{request.path_params['path']}",
                headers=_passed(request.headers),
                content=body,
            ),
            stream=True,
        )
        headers = {**_passed(answer.headers), "budget-request-id": call.id}
        if "text/event-stream" in answer.headers.get("content-type", ""):
            return StreamingResponse(self._stream(call, answer), answer.status_code, headers)
        data = await answer.aread()
        await self._settled(call, orjson.loads(data), answer.status_code)
        return Response(data, answer.status_code, headers)

    async def _stream(self, call: Call, answer: httpx.Response) -> AsyncIterator[bytes]:
        last: dict[str, Any] = {}
        async for chunk in answer.aiter_raw():
            for line in chunk.split(b"\n"):
                if line.startswith(b"data: {") and b'"usage"' in line:
                    last = orjson.loads(line[6:])
            yield chunk
        await self._settled(call, last, answer.status_code)

    async def _upstream(self, org: str, agent: str) -> str | None:
        until_s, upstream = self._agents.get((org, agent), (0.0, ""))
        if time.monotonic() < until_s:
            return upstream
        found = await self._redis.hget(f"bg:{{{org}}}:agents", agent)
        if found is None:
            return None
        upstream = str(orjson.loads(found)["upstream"])
        self._agents[org, agent] = (time.monotonic() + _AGENT_LIFE_S, upstream)
        return upstream

    async def _reserved(
        self, key: KeyText, agent: str, quote: int, body: bytes
    ) -> tuple[Call, str]:
        now_ms = time.time_ns() // 1_000_000
        call_id, org = str(ULID()), key.org
        windows = self._proposals.current(org, now_ms)
        prefix = f"bg:{{{org}}}:"
        reply = await self._reserve(
            keys=[
                *(f"{prefix}{name}" for name in ("limits", "meta", "keys", "holds")),
                "bg:expiry",
                f"{prefix}done:{call_id}",
                "bg:journal",
                f"{prefix}rate",
                f"{prefix}idem:-",
                *windows.keys,
            ],
            args=[
                call_id,
                now_ms,
                org,
                agent,
                quote,
                0,
                60_000,
                key.digest,
                "proxy",
                hashlib.sha256(body).hexdigest(),
                "",
                windows.zone,
                5_000_000,
                "1",
                windows.packed,
                windows.bounds,
                *windows.kinds,
            ],
        )
        refusal = "" if reply[0] == b"HELD" else reply[0].decode()
        call = Call(call_id, now_ms, org, agent, key.key_id, windows.packed, windows.keys)
        return call, refusal

    async def _settled(self, call: Call, message: dict[str, Any], status: int) -> None:
        usage = message["usage"]
        cost = (
            usage["prompt_tokens"] * INPUT_MICROCENTS
            + usage["completion_tokens"] * OUTPUT_MICROCENTS
        )
        detail = {
            "model": message["model"],
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "source": "tokens",
            "status": status,
            "key_id": call.key_id,
        }
        prefix = f"bg:{{{call.org}}}:"
        await self._settle(
            keys=[
                *(f"{prefix}{name}" for name in ("limits", "meta", "holds")),
                "bg:expiry",
                f"{prefix}done:{call.id}",
                "bg:journal",
                f"{prefix}rate",
                f"{prefix}idem:-",
                *call.spend_keys,
            ],
            args=[
                call.id,
                call.reserved_ms,
                call.org,
                call.agent,
                cost,
                call.windows,
                "",
                "1",
                orjson.dumps(detail),
            ],
        )


def _passed(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}


def create() -> Starlette:
    """Return the app; its clients live as long as it runs."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with (
            Redis.from_url(os.environ["BENCH_REDIS_URL"]) as redis,
            httpx.AsyncClient(limits=_CONNECTIONS, timeout=60.0) as client,
        ):
            app.router.routes.append(
                Route("/agents/{agent}/{path:path}", Naive(redis, client).invoke, methods=["POST"])
            )
            yield

    return Starlette(lifespan=lifespan)
