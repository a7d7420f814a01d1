"""Invocations: one call of an agent as it arrives, read from its path and head."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from gateway.domain.agent import Dialect
from gateway.proxy.agents import Route, voice_of
from gateway.proxy.dialect import Tongue, rpc_tongue
from gateway.proxy.head import RequestHead, read_request_head
from gateway.proxy.ids import new_id
from gateway.proxy.reservations import Caller

_PREFIX = b"/agents/"
# Where a connection has read the target itself, in ``extensions`` of the ASGI scope.
ARRIVAL = "budget.arrival"


class Onward(Struct, frozen=True):
    """How every call with one head goes on to a route: for whom, and how its own head starts."""

    route: Route
    caller: Caller
    method: bytes
    start: bytes


class Target(Struct):
    """What a head asks for: an agent, and what of it. ``path`` begins below the agent.

    ``onward`` is made by the first call that was found fit to go on, and true for as long as the
    agent has this very route: so long nobody need look again at what the head says.
    """

    agent: str
    method: str
    path: bytes
    head: RequestHead
    onward: Onward | None = None


class Arrival(Struct, frozen=True):
    """A call whose head was read by its connection.

    ``body_length`` is None where only the end of the body will tell; ``body`` is there where all
    of it came with the head, and then no message brings it again.
    """

    target: Target
    body_length: int | None
    body: bytes | None = None


class Invocation(Struct, frozen=True):
    """A call of an agent that begins, with a fresh id.

    Not made on arrival: behind another call on its connection its id could grow too old.
    """

    id: str
    target: Target
    body_length: int | None
    body: bytes | None = None


def invocation_of(arrival: Arrival) -> Invocation:
    """Return the call that has arrived and begins now."""
    return Invocation(new_id(), arrival.target, arrival.body_length, arrival.body)


def arrival_in(scope: Mapping[str, Any]) -> Arrival | None:
    """Return the call of an agent in an ASGI scope, or None where its path names none."""
    known: Arrival | None = scope.get("extensions", {}).get(ARRIVAL)
    return known or read_arrival(scope)


def read_arrival(scope: Mapping[str, Any]) -> Arrival | None:
    """Read the head in an ASGI scope; None where its path names no agent.

    The path stays as it was sent: what is decoded twice can name something else each time.
    """
    if not scope["raw_path"].startswith(_PREFIX):
        return None
    headers = scope["headers"]
    agent, _, path = scope["raw_path"][len(_PREFIX) :].partition(b"/")
    query = scope["query_string"]
    path = b"/%b?%b" % (path, query) if query else b"/" + path
    head = read_request_head(headers)
    # llhttp has refused a length that is no number, and any second one.
    length = None if head.is_chunked else int(dict(headers).get(b"content-length", 0))
    return Arrival(Target(agent.decode("latin-1"), scope["method"], path, head), length)


def tongue_of(call: Invocation, dialect: Dialect = "auto", body: bytes | None = None) -> Tongue:
    """Return how the caller expects to be told, by what is known of its call."""
    rpc = rpc_tongue(body) if body else None
    return rpc or Tongue(voice_of(dialect, call.target.path))
