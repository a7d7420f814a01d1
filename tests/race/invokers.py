"""One process that calls agents: `python -m tests.race.invokers COUNT SEED PORT PORT`.

All calls are under way at once, half of them through each gateway. Prints one line of JSON.

No client library: five hundred connections of one client are slower there than two gateways.
"""

import asyncio
import random
import sys
from collections.abc import Sequence
from typing import Any

import httptools
import orjson

from tests.proxy import acme

AGENTS = ("flat", "reported")
_READ_BYTES = 65_536


class _Answer:
    """What the parser reads of one answer."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name] = value

    def on_body(self, chunk: bytes) -> None:
        self.body += chunk


async def call_all(count: int, seed: int, ports: Sequence[int]) -> list[dict[str, Any]]:
    """Make every call and return what each was answered."""
    chance = random.Random(seed)
    calls = [call(ports[number % len(ports)], chance.choice(AGENTS)) for number in range(count)]
    return await asyncio.gather(*calls)


async def call(port: int, agent: str) -> dict[str, Any]:
    """Make one call over a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"POST /agents/{agent}/invoke HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n"
        f"authorization: Bearer {acme.KEY}\r\ncontent-length: 2\r\n\r\n{{}}".encode()
    )
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    while data := await reader.read(_READ_BYTES):
        parser.feed_data(data)
    writer.close()
    await writer.wait_closed()
    is_ours = answer.headers[b"budget-source"] == b"gateway"
    return {
        "status": parser.get_status_code(),
        "id": answer.headers.get(b"budget-request-id", b"").decode(),
        "cost": answer.headers.get(b"budget-cost", b"0").decode(),
        "problem": orjson.loads(answer.body) if is_ours else None,
    }


if __name__ == "__main__":
    said = asyncio.run(call_all(int(sys.argv[1]), int(sys.argv[2]), list(map(int, sys.argv[3:]))))
    sys.stdout.write(orjson.dumps(said).decode())
