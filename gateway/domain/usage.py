"""Usage: what a call consumed, read from the answers of the model APIs."""

from collections.abc import Mapping
from typing import NamedTuple

# Above any context window; a larger count is a mistake of the upstream, and would price as one.
_TOKENS_MAX = 1_000_000_000


class Usage(NamedTuple):
    """Tokens of one call.

    ``cached_tokens`` is the part of the input that was read from a cache, ``stored_tokens`` the
    part that was written to one.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int
    stored_tokens: int = 0


def usage_of(message: Mapping[str, object]) -> Usage | None:
    """Return the usage in an answer or in one event of its stream, or None where it has none.

    Known are OpenAI's chat, completions, embeddings and responses, with the ``response.*`` events,
    and Anthropic's messages with ``message_start`` and ``message_delta``. Counts that are not
    whole, not negative numbers are no usage: missing usage never means zero.
    """
    for holder in (message, message.get("response"), message.get("message")):
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict):
            return _anthropic(usage) if _is_anthropic(usage) else _openai(usage)
    return None


def merged(earlier: Usage | None, later: Usage) -> Usage:
    """Return the usage after a further event of the same stream.

    Anthropic counts the input in its first event and the output, cumulatively, in the last ones:
    each number only grows, so the larger one is the newer one.
    """
    if earlier is None:
        return later
    return Usage(*(max(pair) for pair in zip(earlier, later, strict=True)))


def _is_anthropic(usage: Mapping[str, object]) -> bool:
    # OpenAI's responses say input_tokens too, but with details and with a total.
    return (
        "prompt_tokens" not in usage
        and "total_tokens" not in usage
        and (
            "cache_read_input_tokens" in usage
            or "cache_creation_input_tokens" in usage
            or "input_tokens_details" not in usage
        )
    )


def _openai(usage: Mapping[str, object]) -> Usage | None:
    chat = "prompt_tokens" in usage
    read = _count(usage, "prompt_tokens" if chat else "input_tokens")
    written = _count(usage, "completion_tokens" if chat else "output_tokens", default=0)
    details = usage.get("prompt_tokens_details" if chat else "input_tokens_details")
    cached = _count(details, "cached_tokens", default=0) if isinstance(details, dict) else 0
    return _usage(read, written, cached)


def _anthropic(usage: Mapping[str, object]) -> Usage | None:
    # Here input_tokens leaves out what was written to and read from the cache.
    fresh = _count(usage, "input_tokens", default=0)
    created = _count(usage, "cache_creation_input_tokens", default=0)
    cached = _count(usage, "cache_read_input_tokens", default=0)
    written = _count(usage, "output_tokens")
    if fresh is None or created is None or cached is None:
        return None
    return _usage(fresh + created + cached, written, cached, created)


def _usage(
    read: int | None, written: int | None, cached: int | None, stored: int = 0
) -> Usage | None:
    if read is None or written is None or cached is None or cached > read:
        return None
    return Usage(read, written, cached, stored)


def _count(usage: Mapping[str, object], name: str, default: int | None = None) -> int | None:
    value = usage.get(name)
    if value is None:
        return default
    return value if type(value) is int and 0 <= value <= _TOKENS_MAX else None
