"""Routes: what the data port answers beside calls of agents."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.proxy.dialect import Tongue, render
from gateway.proxy.ids import new_id
from gateway.proxy.problem import Problem, method_not_allowed
from gateway.telemetry import Readiness, probe_routes


def routes(trouble: Readiness) -> Starlette:
    """Return the app of every path that names no agent; ``trouble`` is why we are not ready."""
    return Starlette(routes=probe_routes(trouble), exception_handlers={HTTPException: _refused})


async def _refused(request: Request, error: Exception) -> Response:
    allowed = error.headers if isinstance(error, HTTPException) else None
    if allowed and "Allow" in allowed:
        problem = method_not_allowed(allowed["Allow"])
    else:
        detail = f"There is nothing at {request.url.path}; agents are below /agents/."
        problem = Problem("not_found", detail)
    headers, body = render(problem, Tongue(), new_id())
    response = Response(body, problem.status)
    response.raw_headers.extend(header for header in headers if header[0] != b"content-length")
    return response
