"""The one request and the one answer of every measurement, whole and as a stream."""

from typing import NamedTuple

MODEL = "gpt-4o-mini"
INPUT_TOKENS, OUTPUT_TOKENS = 12, 34
INPUT_MICROCENTS, OUTPUT_MICROCENTS = 15, 60
COST_MICROCENTS = INPUT_TOKENS * INPUT_MICROCENTS + OUTPUT_TOKENS * OUTPUT_MICROCENTS

_USAGE = (
    f'{{"prompt_tokens":{INPUT_TOKENS},"completion_tokens":{OUTPUT_TOKENS},'
    f'"total_tokens":{INPUT_TOKENS + OUTPUT_TOKENS}}}'
)
_TEXT = "The budget holds because every call is asked for before it runs and counted after it ran."
_IS_STREAM = b'"stream":true'


class Exchange(NamedTuple):
    """A request body and the answer to it: its parts in order, as they are sent."""

    request: bytes
    content_type: bytes
    parts: tuple[bytes, ...]

    @property
    def answer_bytes(self) -> int:
        """The length of the whole answer."""
        return sum(map(len, self.parts))


def _request(stream: str) -> bytes:
    text = (
        f'{{"model":"{MODEL}","messages":[{{"role":"system","content":"You are terse."}},'
        f'{{"role":"user","content":"Why does the budget hold?"}}],"max_tokens":64{stream}}}'
    )
    return text.encode()


def _json_answer() -> bytes:
    text = (
        f'{{"id":"chatcmpl-1","object":"chat.completion","created":1790000000,"model":"{MODEL}",'
        f'"choices":[{{"index":0,"message":{{"role":"assistant","content":"{_TEXT}"}},'
        f'"finish_reason":"stop"}}],"usage":{_USAGE}}}'
    )
    return text.encode()


def _events() -> tuple[bytes, ...]:
    head = f'{{"id":"chatcmpl-1","object":"chat.completion.chunk","model":"{MODEL}"'
    chunks = [
        f'{head},"choices":[{{"index":0,"delta":{{"content":"{word} "}}}}]}}'
        for word in _TEXT.split()
    ]
    chunks += [f'{head},"choices":[],"usage":{_USAGE}}}', "[DONE]"]
    return tuple(f"data: {chunk}\n\n".encode() for chunk in chunks)


JSON = Exchange(_request(""), b"application/json", (_json_answer(),))
SSE = Exchange(
    _request(',"stream":true,"stream_options":{"include_usage":true}'),
    b"text/event-stream",
    _events(),
)
EXCHANGES = {"json": JSON, "sse": SSE}


def exchange_for(body: bytes) -> Exchange:
    """Return the exchange that a request body asks for, as a model's API would decide."""
    return SSE if _IS_STREAM in body else JSON
