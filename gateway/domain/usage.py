"""Usage: what a call consumed, read from the answers of the model APIs."""

from msgspec import UNSET, Struct, UnsetType

# Above any context window; a larger count is a mistake of the upstream, and would price as one.
_TOKENS_MAX = 1_000_000_000

# What a member of a JSON object can be that is no object.
Other = list[object] | str | int | float | bool | None


class Usage(Struct, frozen=True, gc=False):
    """Tokens of one call.

    ``cached_tokens`` is the part of the input that was read from a cache, ``stored_tokens`` the
    part that was written to one.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int
    stored_tokens: int = 0


class ToldDetails(Struct, frozen=True, gc=False):
    """What OpenAI tells of the input beside its size."""

    cached_tokens: object = None


class ToldUsage(Struct, frozen=True, gc=False):
    """The member ``usage`` of an answer or of an event, each of its own as it was written.

    Unset is what was not there at all, where that says which API it is.
    """

    prompt_tokens: object = UNSET
    completion_tokens: object = None
    prompt_tokens_details: ToldDetails | Other = None
    total_tokens: object = UNSET
    input_tokens: object = None
    output_tokens: object = None
    input_tokens_details: ToldDetails | Other | UnsetType = UNSET
    cache_creation_input_tokens: object = UNSET
    cache_read_input_tokens: object = UNSET
    cost: object = None


def usage_of(told: ToldUsage) -> Usage | None:
    """Return the usage that was told, or None where it is none.

    Known are OpenAI's chat, completions, embeddings and responses, and Anthropic's messages.
    Counts that are not whole, not negative numbers are no usage: missing usage never means zero.
    """
    if told.prompt_tokens is not UNSET:
        return _openai(told.prompt_tokens, told.completion_tokens, told.prompt_tokens_details)
    if _is_anthropic(told):
        return _anthropic(told)
    return _openai(told.input_tokens, told.output_tokens, told.input_tokens_details)


def tells_input(told: ToldUsage) -> bool:
    """Say whether the size of the input was told, be it zero."""
    return told.prompt_tokens is not UNSET or told.input_tokens is not None


def merged(earlier: Usage, later: Usage) -> Usage:
    """Return the usage after a further event of the same stream.

    Anthropic counts the input in its first event and the output, cumulatively, in the last ones:
    each number only grows, so the larger one is the newer one.
    """
    return Usage(
        max(earlier.input_tokens, later.input_tokens),
        max(earlier.output_tokens, later.output_tokens),
        max(earlier.cached_tokens, later.cached_tokens),
        max(earlier.stored_tokens, later.stored_tokens),
    )


def _is_anthropic(told: ToldUsage) -> bool:
    # OpenAI's responses say input_tokens too, but with details and with a total.
    return told.total_tokens is UNSET and (
        told.cache_read_input_tokens is not UNSET
        or told.cache_creation_input_tokens is not UNSET
        or told.input_tokens_details is UNSET
    )


def _openai(read: object, written: object, details: object) -> Usage | None:
    # None is what was not told.
    written = 0 if written is None else written
    cached = 0 if details is None else _cached(details)
    # A bool is no count, though it is an int.
    if type(read) is not int or type(written) is not int or type(cached) is not int:
        return None
    if 0 <= cached <= read <= _TOKENS_MAX and 0 <= written <= _TOKENS_MAX:
        return Usage(read, written, cached)
    return None


def _cached(details: object) -> object:
    cached = details.cached_tokens if isinstance(details, ToldDetails) else None
    return 0 if cached is None else cached


def _anthropic(told: ToldUsage) -> Usage | None:
    # Here input_tokens leaves out what was written to and read from the cache.
    fresh = _count(told.input_tokens, 0)
    created = _count(told.cache_creation_input_tokens, 0)
    cached = _count(told.cache_read_input_tokens, 0)
    written = _count(told.output_tokens)
    if fresh is None or created is None or cached is None or written is None:
        return None
    return Usage(fresh + created + cached, written, cached, created)


def _count(told: object, missing: int | None = None) -> int | None:
    """Return a count that was told, ``missing`` where none was, or None where it is no count."""
    if type(told) is int and 0 <= told <= _TOKENS_MAX:
        return told
    return missing if told is None or told is UNSET else None
