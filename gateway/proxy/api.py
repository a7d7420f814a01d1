"""The API: the routes below ``/v1``, for callers whose work does not pass through here."""

from collections.abc import Awaitable, Callable

import structlog
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.errors import BadRequest, GatewayError
from gateway.proxy import problem
from gateway.proxy.api_holds import ApiHolds, Granted, Standing, Wish
from gateway.proxy.body import UNCHECKED_BYTES_MAX, BodyTooLarge, CallerLeft, read_body
from gateway.proxy.fields import Fields
from gateway.proxy.head import RequestHead, read_request_head
from gateway.proxy.ids import new_id
from gateway.proxy.own_answer import answered, told
from gateway.proxy.problem import Problem, cents, instant
from gateway.proxy.visitor import Visitor, Visitors

API_PREFIX = "/v1/"

_log = structlog.get_logger()


class Asked(Struct, frozen=True):
    """What a request asks for: who, its head, the id in its path or nothing, its body.

    ``has_left`` says whether nobody waits for the answer any more.
    """

    visitor: Visitor
    head: RequestHead
    id: str
    body: bytes
    has_left: Callable[[], Awaitable[bool]]


class Told(Struct, frozen=True, gc=False):
    """An answer: its status, its JSON object."""

    status: int
    members: dict[str, object]


Work = Callable[[Asked], Awaitable[Told | Problem]]


class Api:
    """Answers every request below ``/v1``: who asks is known before anything of it is read."""

    def __init__(self, visitors: Visitors, holds: ApiHolds) -> None:
        self._visitors = visitors
        self._holds = holds

    def routes(self) -> list[Route]:
        """Return the routes; a method that is none of theirs is refused by Starlette."""
        places: list[tuple[str, str, Work]] = [
            ("POST", "/v1/reservations", self._reserve),
            ("POST", "/v1/reservations/{id}/settle", self._settle),
            ("POST", "/v1/reservations/{id}/release", self._release),
            ("POST", "/v1/reservations/{id}/extend", self._extend),
            ("GET", "/v1/requests/{id}", self._request),
        ]
        return [Route(path, self._endpoint(work), methods=[by]) for by, path, work in places]

    def _endpoint(self, work: Work) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            own_id: str = request.path_params.get("id", "")
            try:
                answer = await self._answer(request, own_id, work)
            except GatewayError as error:
                if not (error.transient or isinstance(error, BadRequest)):
                    _log.error("request_failed", path=request.url.path, error=str(error))
                answer = problem.of_error(error)
            except BodyTooLarge:
                answer = problem.too_large(UNCHECKED_BYTES_MAX)
            except CallerLeft:
                # Nobody is there to read it.
                return Response()
            if isinstance(answer, Problem):
                return told(answer, new_id())
            return answered(answer.status, answer.members, str(answer.members.get("id", own_id)))

        return endpoint

    async def _answer(self, request: Request, own_id: str, work: Work) -> Told | Problem:
        head = read_request_head(request.scope["headers"])
        visitor = await self._visitors.identify(head)
        if isinstance(visitor, Problem):
            return visitor
        if head.unfit is not None:
            return head.unfit
        body = await read_body(request.receive, UNCHECKED_BYTES_MAX)
        return await work(Asked(visitor, head, own_id, body, request.is_disconnected))

    async def _reserve(self, asked: Asked) -> Told | Problem:
        fields = Fields(asked.body, ("agent", "amount_cents", "ttl_ms"))
        wish = Wish(
            fields.agent("agent"),
            fields.microcents("amount_cents"),
            fields.ttl_ms("ttl_ms") if "ttl_ms" in fields else 0,
            asked.head.idempotency_key,
        )
        outcome = await self._holds.reserve(asked.visitor, wish)
        if isinstance(outcome, Granted) and await asked.has_left():
            # Nobody would know its id, and it would be charged when it expires.
            return _told(await self._holds.release(asked.visitor, outcome.id))
        return _told(outcome, 201)

    async def _settle(self, asked: Asked) -> Told | Problem:
        cost_microcents = Fields(asked.body, ("cost_cents",)).microcents("cost_cents")
        return _told(await self._holds.settle(asked.visitor, asked.id, cost_microcents))

    async def _release(self, asked: Asked) -> Told | Problem:
        Fields(asked.body, ())
        return _told(await self._holds.release(asked.visitor, asked.id))

    async def _extend(self, asked: Asked) -> Told | Problem:
        fields = Fields(asked.body, ("amount_cents", "ttl_ms"))
        amount_microcents = fields.microcents("amount_cents") if "amount_cents" in fields else 0
        ttl_ms = fields.ttl_ms("ttl_ms") if "ttl_ms" in fields else 0
        if not (ttl_ms or "amount_cents" in fields):
            raise BadRequest("Nothing to extend; expected amount_cents, ttl_ms or both.")
        visitor, id = asked.visitor, asked.id
        return _told(await self._holds.extend(visitor, id, amount_microcents, ttl_ms))

    async def _request(self, asked: Asked) -> Told | Problem:
        found = await self._holds.find(asked.visitor, asked.id)
        if found is None:
            return problem.no_reservation()
        is_open = found.state == "held"
        return Told(
            200,
            {
                "id": asked.id,
                "agent": found.agent,
                "state": found.state,
                "quote_cents": cents(found.quote_microcents),
                "cost_cents": None if is_open else cents(found.cost_microcents),
                "reserved_at": instant(found.reserved_ms),
                "settled_at": None if is_open else instant(found.ended_ms),
                "expires_at": instant(found.deadline_ms) if is_open else None,
            },
        )


def _told(outcome: Granted | Standing | Problem, status: int = 200) -> Told | Problem:
    return outcome if isinstance(outcome, Problem) else Told(status, dict(outcome.members()))
