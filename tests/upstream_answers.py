"""Answers of the stub upstream: the steps it takes, for the shapes that agents answer in."""

import asyncio
import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson


class Ending(enum.Enum):
    """How an answer ends before its end."""

    HANG = "nothing more comes, until the peer leaves"
    DIE = "the connection is reset"
    CLOSE = "the connection is closed"


HANG, DIE, CLOSE = Ending

# Bytes are written as they are; an event is waited for.
Step = bytes | asyncio.Event | Ending
Json = Mapping[str, object]
# An event of a stream: an object becomes its JSON, a text is taken as it is.
StreamEvent = Json | str | asyncio.Event | Ending


class Answering(NamedTuple):
    """One scripted answer.

    ``early`` ones begin when the head of the request is there, and its body is read afterwards.
    A ``reusable`` connection stays open when the steps are done.
    """

    steps: tuple[Step, ...]
    early: bool = False
    reusable: bool = True


def raw_answer(*steps: Step, early: bool = False, reusable: bool = True) -> Answering:
    """Return an answer made of exactly these bytes, pauses and endings."""
    return Answering(steps, early, reusable)


def bytes_answer(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None, *, early: bool = False
) -> Answering:
    """Return a complete answer in one segment."""
    lengths = {"content-length": str(len(body))}
    return Answering((_head(status, lengths | dict(headers or {})) + body,), early)


def json_answer(
    value: Json | Sequence[object],
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    *,
    early: bool = False,
) -> Answering:
    """Return a JSON answer; a reported cost goes into ``headers``."""
    media = {"content-type": "application/json"} | dict(headers or {})
    return bytes_answer(orjson.dumps(value), status, media, early=early)


def chunked_answer(*parts: Step, headers: Mapping[str, str] | None = None) -> Answering:
    """Return an answer whose parts are the chunks of its body, each in its own write."""
    steps: list[Step] = [_head(200, {"transfer-encoding": "chunked"} | dict(headers or {}))]
    steps += [b"%x\r\n%b\r\n" % (len(p), p) if isinstance(p, bytes) else p for p in parts]
    return Answering((*steps, b"0\r\n\r\n"))


def sse_answer(*events: StreamEvent, headers: Mapping[str, str] | None = None) -> Answering:
    """Return a stream of server-sent events, pauses and endings."""
    parts = [_framed(event) if isinstance(event, Mapping | str) else event for event in events]
    return chunked_answer(*parts, headers={"content-type": "text/event-stream", **(headers or {})})


def hang() -> Answering:
    """Return an answer that never begins."""
    return Answering((HANG,))


def die() -> Answering:
    """Return a reset instead of an answer."""
    return Answering((DIE,))


def openai_chat(
    prompt_tokens: int = 12, completion_tokens: int = 34, model: str = "gpt-4o-mini"
) -> Answering:
    """Return a chat completion with its usage."""
    message = {"role": "assistant", "content": "Hello."}
    return json_answer(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": _chat_usage(prompt_tokens, completion_tokens),
        }
    )


def openai_chat_events(
    prompt_tokens: int = 12,
    completion_tokens: int = 34,
    model: str = "gpt-4o-mini",
    words: Sequence[str] = ("Hel", "lo", "."),
    *,
    usage: bool = True,
) -> list[StreamEvent]:
    """Return the events of a streamed chat completion; ``usage`` as with include_usage."""
    shape = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
    deltas: list[Json] = [{"content": word} for word in words]
    events: list[StreamEvent] = [
        shape | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    events.append(shape | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage:
        events.append(
            shape | {"choices": [], "usage": _chat_usage(prompt_tokens, completion_tokens)}
        )
    return [*events, "[DONE]"]


def openai_responses_events(
    input_tokens: int = 12, output_tokens: int = 34, model: str = "gpt-4o-mini"
) -> list[StreamEvent]:
    """Return the events of a streamed response."""
    response = {"id": "resp_1", "object": "response", "model": model}
    usage = {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output_tokens,
    }
    begun = response | {"status": "in_progress"}
    done = response | {"status": "completed", "usage": usage}
    return [
        {"type": "response.created", "response": begun},
        {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "Hello."},
        {"type": "response.completed", "response": done},
    ]


def anthropic_message(
    input_tokens: int = 12, output_tokens: int = 34, model: str = "claude-sonnet-4-5"
) -> Answering:
    """Return a message with its usage."""
    usage = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    return json_answer(_message(model, [{"type": "text", "text": "Hello."}], "end_turn", usage))


def anthropic_events(
    input_tokens: int = 12, output_tokens: int = 34, model: str = "claude-sonnet-4-5"
) -> list[StreamEvent]:
    """Return the events of a streamed message; the usage of message_delta is cumulative."""
    first = {"input_tokens": input_tokens, "output_tokens": 1}
    text = {"type": "text_delta", "text": "Hello."}
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    last = {"output_tokens": output_tokens}
    return [
        {"type": "message_start", "message": _message(model, [], None, first)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": text},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": last},
        {"type": "message_stop"},
    ]


def _message(
    model: str, content: Sequence[Json], stop_reason: str | None, usage: Json
) -> dict[str, object]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage,
    }


def _chat_usage(prompt_tokens: int, completion_tokens: int) -> Json:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _framed(event: Json | str) -> bytes:
    if isinstance(event, str):
        return b"data: %b\n\n" % event.encode()
    name = b"event: %b\n" % str(event["type"]).encode() if "type" in event else b""
    return name + b"data: %b\n\n" % orjson.dumps(event)


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode("latin-1")
