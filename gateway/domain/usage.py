"""Usage: what a call consumed, read from the answers of the model APIs."""

from collections.abc import Mapping

from msgspec import Struct

# Above any context window; a larger count is a mistake of the upstream, and would price as one.
_TOKENS_MAX = 1_000_000_000


class Usage(Struct, frozen=True, gc=False):
    """Tokens of one call.

    ``cached_tokens`` is the part of the input that was read from a cache, ``stored_tokens`` the
    part that was written to one.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int
    stored_tokens: int = 0


def usage_of(told: Mapping[str, object]) -> Usage | None:
    """Return the usage that the member ``usage`` of an answer or of an event tells, or None.

    Known are OpenAI's chat, completions, embeddings and responses, and Anthropic's messages.
    Counts that are not whole, not negative numbers are no usage: missing usage never means zero.
    """
    if "prompt_tokens" in told:
        details = told.get("prompt_tokens_details")
        return _openai(told["prompt_tokens"], told.get("completion_tokens"), details)
    if _is_anthropic(told):
        return _anthropic(told)
    details = told.get("input_tokens_details")
    return _openai(told.get("input_tokens"), told.get("output_tokens"), details)


def merged(earlier: Usage | None, later: Usage) -> Usage:
    """Return the usage after a further event of the same stream.

    Anthropic counts the input in its first event and the output, cumulatively, in the last ones:
    each number only grows, so the larger one is the newer one.
    """
    if earlier is None:
        return later
    return Usage(
        max(earlier.input_tokens, later.input_tokens),
        max(earlier.output_tokens, later.output_tokens),
        max(earlier.cached_tokens, later.cached_tokens),
        max(earlier.stored_tokens, later.stored_tokens),
    )


def _is_anthropic(told: Mapping[str, object]) -> bool:
    # OpenAI's responses say input_tokens too, but with details and with a total.
    return "total_tokens" not in told and (
        "cache_read_input_tokens" in told
        or "cache_creation_input_tokens" in told
        or "input_tokens_details" not in told
    )


def _openai(read: object, written: object, details: object) -> Usage | None:
    cached = _count(details.get("cached_tokens"), 0) if isinstance(details, dict) else 0
    input_tokens, output_tokens = _count(read), _count(written, 0)
    if input_tokens is None or output_tokens is None or cached is None or cached > input_tokens:
        return None
    return Usage(input_tokens, output_tokens, cached)


def _anthropic(told: Mapping[str, object]) -> Usage | None:
    # Here input_tokens leaves out what was written to and read from the cache.
    fresh = _count(told.get("input_tokens"), 0)
    created = _count(told.get("cache_creation_input_tokens"), 0)
    cached = _count(told.get("cache_read_input_tokens"), 0)
    written = _count(told.get("output_tokens"))
    if fresh is None or created is None or cached is None or written is None:
        return None
    return Usage(fresh + created + cached, written, cached, created)


def _count(told: object, missing: int | None = None) -> int | None:
    """Return a count that was told, ``missing`` where none was, or None where it is no count."""
    if type(told) is int and 0 <= told <= _TOKENS_MAX:
        return told
    return missing if told is None else None
