"""Dialects: an answer of the gateway in the words that the caller's SDK understands."""

from collections.abc import Mapping
from email.utils import formatdate
from typing import Literal, NamedTuple

import orjson

from gateway.proxy.problem import KINDS, Kind, Problem

Headers = list[tuple[bytes, bytes]]
Voice = Literal["generic", "openai", "anthropic"]

_ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


class Tongue(NamedTuple):
    """How a caller expects to be told: its dialect, and the id of its JSON-RPC request if any."""

    voice: Voice = "generic"
    is_rpc: bool = False
    rpc_id: object = None


def rpc_tongue(body: bytes) -> Tongue | None:
    """Return how to answer a JSON-RPC request (MCP, A2A), or None where the body is none."""
    if b'"jsonrpc"' not in body:
        return None
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(request, list):
        # A batch that is refused as a whole has one answer, which names none of its requests.
        return Tongue(is_rpc=True) if any(map(_is_rpc, request)) else None
    if not _is_rpc(request):
        return None
    rpc_id = request.get("id")
    return Tongue(is_rpc=True, rpc_id=rpc_id if isinstance(rpc_id, (str, int)) else None)


def _is_rpc(request: object) -> bool:
    return isinstance(request, dict) and "jsonrpc" in request


def render(problem: Problem, tongue: Tongue, request_id: str) -> tuple[Headers, bytes]:
    """Return headers and body of the answer."""
    kind = KINDS[problem.error]
    retry_after_s = problem.retry_after_s or kind.retry_after_s
    retryable = kind.retry is not False and bool(retry_after_s)
    media_type, body = _body(problem, kind, tongue, request_id, retryable)
    headers = own_headers(media_type, body, request_id)
    if kind.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="budget-gateway"'))
    if isinstance(allow := problem.members.get("allow"), str):
        headers.append((b"allow", allow.encode("ascii")))
    if retry_after_s:
        headers.append((b"retry-after", b"%d" % retry_after_s))
    if kind.retry is not None:
        headers.append((b"x-should-retry", b"true" if kind.retry else b"false"))
    return headers, body


def own_headers(media_type: bytes, body: bytes, request_id: str) -> Headers:
    """Return the headers of every answer that the gateway makes itself."""
    return [
        (b"content-type", media_type),
        (b"content-length", b"%d" % len(body)),
        (b"date", formatdate(usegmt=True).encode()),
        (b"budget-source", b"gateway"),
        (b"x-request-id", request_id.encode()),
        (b"request-id", request_id.encode()),
        (b"cache-control", b"no-store"),
    ]


def _body(
    problem: Problem, kind: Kind, tongue: Tongue, request_id: str, retryable: bool
) -> tuple[bytes, bytes]:
    error, detail = problem.error, problem.detail
    members: dict[str, object] = {
        "type": f"urn:budget-gateway:problem:{error}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "error": error,
        **problem.members,
        "retryable": retryable,
        "request_id": request_id,
    }
    if tongue.is_rpc:
        fault = {"code": kind.status, "message": detail, "data": members}
        envelope = {"jsonrpc": "2.0", "id": tongue.rpc_id, "error": fault}
        return b"application/json", orjson.dumps(envelope)
    if tongue.voice == "openai":
        members["error"] = {"type": error, "code": error, "message": detail, "param": None}
    if tongue.voice == "anthropic":
        fallback = "invalid_request_error" if kind.status < 500 else "api_error"
        fault = members | {
            "type": _ANTHROPIC_TYPES.get(kind.status, fallback),
            "message": detail,
        }
        envelope = {"type": "error", "error": fault, "request_id": request_id}
        return b"application/json", orjson.dumps(envelope)
    return b"application/problem+json", orjson.dumps(members)


def broken_event(problem: Problem, tongue: Tongue, request_id: str) -> bytes:
    """Return the event that ends an event stream which broke off, as the SDKs expect it."""
    _, body = render(problem, tongue, request_id)
    if tongue.voice == "openai":
        return b"data: " + body + b"\n\n"
    return b"event: error\ndata: " + body + b"\n\n"
