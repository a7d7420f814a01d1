"""Routes: what the data port answers beside calls of agents."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.proxy.api import Api
from gateway.proxy.ids import new_id
from gateway.proxy.own_answer import told
from gateway.proxy.problem import Problem, method_not_allowed
from gateway.telemetry import Readiness, probe_routes


def routes(trouble: Readiness, api: Api) -> Starlette:
    """Return the app of every path that names no agent; ``trouble`` is why we are not ready."""
    app = Starlette(
        routes=[*probe_routes(trouble), *api.routes()],
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )
    # A redirect would be one that the caller's Host header has chosen.
    app.router.redirect_slashes = False
    return app


async def _refused(request: Request, error: Exception) -> Response:
    allowed = error.headers if isinstance(error, HTTPException) else None
    if allowed and "Allow" in allowed:
        return told(method_not_allowed(allowed["Allow"]), new_id())
    detail = f"There is nothing at {request.url.path}; agents are below /agents/."
    return told(Problem("not_found", detail), new_id())


async def _failed(_request: Request, _error: Exception) -> Response:
    return told(Problem("internal_error", "The gateway failed."), new_id())
