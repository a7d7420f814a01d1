"""The agent of the demo: a small ASGI app that answers as the model APIs do, with usage.

python -m gateway.cli.demo_agent 9000
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gateway.cli.leash import end_with_stdin

_WORDS = ("Money", "that", "was", "not", "given", "cannot", "be", "spent.")
# What an answer is said to take; a caller that allows less gets less.
_OUTPUT_TOKENS = 200
_BYTES_PER_TOKEN = 4
# Slow enough that a person sees a stream arrive.
_PAUSE_S = 0.05


async def chat(request: Request) -> Response:
    """Answer OpenAI's chat completions, as JSON or as a stream that ends with the usage."""
    body = await request.body()
    asked = orjson.loads(body)
    read, written = _tokens(body, asked)
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    answer = {"id": "chatcmpl-demo", "created": 0, "model": asked.get("model", "")}
    if asked.get("stream"):
        return _stream(_chat_events(answer | {"object": "chat.completion.chunk"}, usage))
    message = {"role": "assistant", "content": " ".join(_WORDS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer |= {"object": "chat.completion", "choices": [choice], "usage": usage}
    return JSONResponse(answer)


async def messages(request: Request) -> Response:
    """Answer Anthropic's messages, as JSON or as a stream."""
    body = await request.body()
    asked = orjson.loads(body)
    read, written = _tokens(body, asked)
    answer = {
        "id": "msg_demo",
        "type": "message",
        "role": "assistant",
        "model": asked.get("model", ""),
        "stop_reason": None,
        "stop_sequence": None,
    }
    if asked.get("stream"):
        return _stream(_message_events(answer, read, written))
    content = [{"type": "text", "text": " ".join(_WORDS)}]
    usage = {"input_tokens": read, "output_tokens": written}
    answer |= {"content": content, "stop_reason": "end_turn", "usage": usage}
    return JSONResponse(answer)


async def invoke(request: Request) -> Response:
    """Answer anything else by saying what was received."""
    body = await request.body()
    return JSONResponse({"answer": " ".join(_WORDS), "received_bytes": len(body)})


def _tokens(body: bytes, asked: dict[str, Any]) -> tuple[int, int]:
    most = asked.get("max_completion_tokens") or asked.get("max_tokens") or _OUTPUT_TOKENS
    return -(-len(body) // _BYTES_PER_TOKEN), min(_OUTPUT_TOKENS, int(most))


def _stream(events: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(events, media_type="text/event-stream")


async def _chat_events(head: dict[str, Any], usage: dict[str, int]) -> AsyncIterator[bytes]:
    for word in _WORDS:
        delta = {"role": "assistant", "content": f"{word} "}
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        yield _event(head | {"choices": [choice]})
        await asyncio.sleep(_PAUSE_S)
    ended = {"index": 0, "delta": {}, "finish_reason": "stop"}
    yield _event(head | {"choices": [ended]})
    yield _event(head | {"choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


async def _message_events(head: dict[str, Any], read: int, written: int) -> AsyncIterator[bytes]:
    usage = {"input_tokens": read, "output_tokens": 1}
    yield _named({"type": "message_start", "message": head | {"content": [], "usage": usage}})
    block = {"type": "text", "text": ""}
    yield _named({"type": "content_block_start", "index": 0, "content_block": block})
    for word in _WORDS:
        delta = {"type": "text_delta", "text": f"{word} "}
        yield _named({"type": "content_block_delta", "index": 0, "delta": delta})
        await asyncio.sleep(_PAUSE_S)
    yield _named({"type": "content_block_stop", "index": 0})
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield _named({"type": "message_delta", "delta": ended, "usage": {"output_tokens": written}})
    yield _named({"type": "message_stop"})


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def _named(data: dict[str, Any]) -> bytes:
    return b"event: " + str(data["type"]).encode() + b"\n" + _event(data)


app = Starlette(
    routes=[
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/messages", messages, methods=["POST"]),
        Route("/{path:path}", invoke, methods=["GET", "POST"]),
    ]
)


def main(port: int) -> None:
    """Serve on loopback until standard input ends."""
    end_with_stdin()
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
