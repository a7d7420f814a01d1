"""Invocations: one call of an agent as it arrives, read from its path and head."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.domain.agent import Dialect
from gateway.proxy.agents import voice_of
from gateway.proxy.dialect import Tongue, rpc_tongue
from gateway.proxy.head import Heads, RequestHead
from gateway.proxy.ids import new_id

PREFIX = b"/agents/"
_PREFIX_BYTES = len(PREFIX)


class Invocation(NamedTuple):
    """A call of an agent. ``id`` is fresh; ``path`` begins below the agent, with its query.

    ``body_length`` is None where only the end of the body will tell.
    """

    id: str
    agent: str
    method: str
    path: bytes
    head: RequestHead
    body_length: int | None


def read_invocation(scope: Mapping[str, Any], heads: Heads) -> Invocation:
    """Return the invocation of an ASGI scope whose path begins with PREFIX.

    The path stays as it was sent: what is decoded twice can name something else each time.
    """
    agent, _, path = scope["raw_path"][_PREFIX_BYTES:].partition(b"/")
    query = scope["query_string"]
    return Invocation(
        new_id(),
        agent.decode("latin-1"),
        scope["method"],
        b"/%b?%b" % (path, query) if query else b"/" + path,
        *heads.read(scope["headers"]),
    )


def tongue_of(call: Invocation, dialect: Dialect = "auto", body: bytes | None = None) -> Tongue:
    """Return how the caller expects to be told, by what is known of its call."""
    rpc = rpc_tongue(body) if body else None
    return rpc or Tongue(voice_of(dialect, call.path))
