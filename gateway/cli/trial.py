"""The command ``agent test``: one call straight to an upstream, quoted and metered as by a gateway.

Nothing is reserved and nothing is charged here; what the upstream does for the call is real.
"""

import asyncio
import ssl
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import httpx
import orjson
import typer
from msgspec import structs
from ulid import ULID

from gateway.cli import environment, output
from gateway.cli.clients import open_clients
from gateway.domain.agent import Agent, read_agent
from gateway.domain.money import cents_from_microcents
from gateway.domain.usage import Usage
from gateway.errors import BadRequest
from gateway.proxy.agents import voice_of
from gateway.proxy.answer_head import read_answer_head
from gateway.proxy.credentials import Credentials
from gateway.proxy.head import Header, read_request_head
from gateway.proxy.invocation import Invocation, Target
from gateway.proxy.meter import Metered, Metering, meter_of
from gateway.proxy.origin import origin_of, request_start
from gateway.proxy.prices import Prices
from gateway.proxy.problem import Problem
from gateway.proxy.quoting import metering_for
from gateway.registry.agents import find_agent

_JSON = (b"content-type", b"application/json")
# What the meter reads may not come compressed.
_UNCODED = (b"accept-encoding", b"identity")


class Report(NamedTuple):
    """What one call has shown; None is what it did not come to."""

    org: str
    agent: str
    upstream: str
    method: str
    path: str
    dialect: str
    ok: bool
    says: str
    is_reachable: bool | None = None
    status: int | None = None
    duration_ms: int | None = None
    quote_cents: str | None = None
    quote_source: str | None = None
    cost_cents: str | None = None
    cost_source: str | None = None
    usage: Usage | None = None
    model: str | None = None
    price_id: str | None = None


class _Request(NamedTuple):
    method: str
    url: str
    headers: list[Header]
    body: bytes


class _Answered(NamedTuple):
    status: int
    duration_ms: int
    metered: Metered | None


def run(
    org: Annotated[str, typer.Argument(help="The org.")],
    agent: Annotated[str, typer.Argument(help="The agent.")],
    path: Annotated[str, typer.Option(help="Path below the upstream, with its query.")] = "/invoke",
    method: Annotated[str, typer.Option(help="Method of the call.")] = "POST",
    data: Annotated[str, typer.Option(help="JSON of the body, or @FILE.")] = "",
    as_json: output.AsJson = False,
) -> None:
    """Make one real call past the gateway, and say what it would hold and charge: 0, or 3.

    Exit code 3: unreachable, failed, or an answer that could not be priced.
    """
    headers = [_JSON, _UNCODED] if data else [_UNCODED]
    head = read_request_head(headers)
    call = Invocation(str(ULID()), Target(agent, _method(method), _path(path), head), 0)
    report = asyncio.run(_report(org, call, _body(data)))
    rows = [(name, value) for name, value in _shown(report).items() if value is not None]
    output.show(_shown(report), output.table(("what", "is"), rows), as_json=as_json)
    if not report.ok:
        raise typer.Exit(output.CHECK_FAILED)


def _method(text: str) -> str:
    if not text.isascii() or not text.isalpha():
        raise BadRequest(f"method is {text!r}; expected a word such as POST.")
    return text.upper()


def _path(text: str) -> bytes:
    if not text.startswith("/") or not text.isascii():
        raise BadRequest(f"path is {text!r}; expected ASCII that begins with /.")
    return text.encode("ascii")


def _body(data: str) -> bytes:
    if not data:
        return b""
    try:
        body = Path(data[1:]).read_bytes() if data.startswith("@") else data.encode()
        orjson.loads(body)
    except OSError as error:
        raise BadRequest(f"data names {data[1:]}, which cannot be read: {error}.") from error
    except ValueError as error:
        raise BadRequest(f"data is no JSON: {error}.") from error
    return body


async def _report(org: str, call: Invocation, body: bytes) -> Report:
    settings = environment.load()
    async with open_clients(settings) as clients:
        description = await find_agent(clients, org, call.target.agent)
    agent = read_agent(description)
    report = Report(
        org,
        call.target.agent,
        agent.upstream,
        call.target.method,
        call.target.path.decode(),
        voice_of(agent.dialect, call.target.path),
        False,
        "",
    )
    metering = metering_for(call, agent, body, Prices().price_of)
    if isinstance(metering, Problem):
        return report._replace(says=f"The gateway would refuse this call: {metering.detail}")
    quote = metering.quote
    report = report._replace(
        quote_cents=cents_from_microcents(quote.amount_microcents), quote_source=quote.source
    )
    credentials = Credentials(environment.variables(), settings.credentials_dir)
    try:
        added = credentials.headers(agent.headers)
    except ValueError as error:
        return report._replace(says=f"Not called, for a header has no value here: {error}")
    headers = [header for header in call.target.head.forwarded if header[0] not in dict(added)]
    request = _Request(call.target.method, _url(call, agent), [*headers, *added], body)
    try:
        answered = await _ask(request, metering)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        says = f"The upstream cannot be reached: {_reason(error)}."
        return report._replace(is_reachable=False, says=says)
    except httpx.RequestError as error:
        says = f"The upstream took the call and gave no whole answer: {_reason(error)}."
        return report._replace(is_reachable=True, says=says)
    return _judged(report, metering, answered)


def _reason(error: httpx.RequestError) -> str:
    return str(error) or type(error).__name__


def _url(call: Invocation, agent: Agent) -> str:
    """Return where a gateway would send the call; what it would refuse is refused."""
    origin = origin_of(agent.upstream)
    request_start(origin, call.target.method.encode("ascii"), call.target.path, b"")
    scheme = "https" if origin.site.is_tls else "http"
    return f"{scheme}://{(origin.authority + origin.base + call.target.path).decode('ascii')}"


async def _ask(request: _Request, metering: Metering) -> _Answered:
    timeouts = metering.agent.timeouts
    # Proxies of the environment are not used, as the gateway does not.
    client = httpx.AsyncClient(
        timeout=httpx.Timeout(timeouts.read_s, connect=timeouts.connect_s),
        verify=ssl.create_default_context(),
        trust_env=False,
    )
    began_s = time.monotonic()
    async with client:
        method, url, sent, body = request
        built = client.build_request(method, url, headers=sent, content=body)
        answer = await client.send(built, stream=True)
        headers = [(name.lower(), value) for name, value in answer.headers.raw]
        meter = meter_of(metering, read_answer_head(answer.status_code, headers))
        async for chunk in answer.aiter_bytes():
            meter.feed(chunk)
    duration_ms = round((time.monotonic() - began_s) * 1000)
    return _Answered(answer.status_code, duration_ms, meter.result())


def _judged(report: Report, metering: Metering, answered: _Answered) -> Report:
    status, duration_ms, metered = answered
    found = report._replace(is_reachable=True, status=status, duration_ms=duration_ms)
    if metered is None:
        says = f"The upstream refused with {status}: the call would be released, nothing charged."
        return found._replace(cost_cents="0", cost_source="released", says=says)
    cost_cents = cents_from_microcents(metered.cost_microcents)
    is_priced = metered.source != "quote" or metering.quote.source == "free"
    says = f"The call would be charged {cost_cents} cents."
    if not is_priced:
        says = f"The answer tells no usage and no cost. {says[:-1]}: the whole quote."
    if status >= 500:
        says = f"The upstream failed with {status}. {says}"
    return found._replace(
        ok=is_priced and status < 500,
        says=says,
        cost_cents=cost_cents,
        cost_source=metered.source,
        usage=metered.usage,
        model=metered.model,
        price_id=metered.price_id,
    )


def _shown(report: Report) -> dict[str, object]:
    usage = report.usage
    tokens = structs.asdict(usage) if usage else dict.fromkeys(Usage.__struct_fields__)
    members = report._asdict()
    del members["usage"]
    return members | tokens
