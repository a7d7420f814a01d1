"""Own answers: what the routes beside calls of agents say, as Starlette sends it."""

from collections.abc import Mapping

import orjson
from starlette.responses import Response

from gateway.proxy.dialect import Headers, Tongue, own_headers, render
from gateway.proxy.problem import Problem


def answered(status: int, members: Mapping[str, object], request_id: str) -> Response:
    """Return an answer with a JSON object."""
    body = orjson.dumps(members)
    return _response(status, own_headers(b"application/json", body, request_id), body)


def told(problem: Problem, request_id: str) -> Response:
    """Return a refusal or fault."""
    headers, body = render(problem, Tongue(), request_id)
    return _response(problem.status, headers, body)


def _response(status: int, headers: Headers, body: bytes) -> Response:
    response = Response(body, status)
    response.raw_headers = headers
    return response
