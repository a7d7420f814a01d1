"""The commands ``org``: who may spend at all, frozen and thawed."""

import asyncio
from datetime import UTC
from typing import Annotated, NamedTuple

import typer
from rich.console import Group

from gateway.cli import environment, output
from gateway.cli.author import Actor, author
from gateway.cli.clients import open_clients
from gateway.cli.options import spread
from gateway.errors import BadRequest
from gateway.registry.limits import Author
from gateway.registry.orgs import Org, OrgDetail, add_org, find_org, list_orgs, set_status

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

_MONTH = "org.month.limit_cents"
_DEFAULT_ZONE = "UTC"

OrgId = Annotated[str, typer.Argument(metavar="ORG", help="Letters, digits, _ or -.")]
Cause = Annotated[str, typer.Option(help="Why; kept in the history.")]


class OrgOptions(NamedTuple):
    """What a new org starts with."""

    month_cents: Annotated[
        str | None, typer.Option(help="What it may spend in a month, in cents.")
    ] = None
    unlimited: Annotated[bool, typer.Option("--unlimited", help="No limit of the org.")] = False
    timezone: Annotated[
        str, typer.Option(help="Where its days and months begin, such as Europe/Berlin.")
    ] = _DEFAULT_ZONE
    stripe_customer: Annotated[str, typer.Option(help="Its customer id in Stripe.")] = ""
    actor: Actor = ""


@app.command()
@spread(OrgOptions)
def add(org: OrgId, options: OrgOptions, as_json: output.AsJson = False) -> None:
    """Add an org. One that is there keeps its limits and its zone; what is missing is mended."""
    if (options.month_cents is None) != options.unlimited:
        raise BadRequest("Give one of --month-cents N and --unlimited: an org needs a limit.")
    limits = {_MONTH: options.month_cents if options.month_cents is not None else "none"}
    is_new, found = asyncio.run(_add(org, options, limits))
    for field, value in {**limits, "timezone": options.timezone}.items():
        if found.limits.get(field) != value:
            output.complain(
                f"{field} of {org} stays {found.limits.get(field)}; change it with "
                f"limits set {org} {field}={value}."
            )
    sentence = f"Org {org} is added." if is_new else f"Org {org} was there already."
    output.show({"created": is_new, **_document(found)}, sentence, as_json=as_json)


@app.command("list")
def list_all(as_json: output.AsJson = False) -> None:
    """List every org."""
    orgs = asyncio.run(_list())
    output.show({"orgs": orgs}, output.table(Org._fields, orgs), as_json=as_json)


@app.command()
def show(org: OrgId, as_json: output.AsJson = False) -> None:
    """Show zone, status, billing, agents, keys and limits of an org."""
    document = _document(asyncio.run(_find(org)))
    limits, agents = document.pop("limits"), document["agents"]
    assert isinstance(limits, dict)
    assert isinstance(agents, list)
    rows = (document | {"agents": ", ".join(agents)}).items()
    text = Group(
        output.table(("what", "is"), rows), "", output.table(("field", "value"), limits.items())
    )
    output.show({**document, "limits": limits}, text, as_json=as_json)


@app.command()
def freeze(
    org: OrgId, actor: Actor = "", cause: Cause = "", as_json: output.AsJson = False
) -> None:
    """Refuse every call of an org from the next one on; calls that run are finished."""
    _set(org, "frozen", author(actor, cause or "org freeze"), as_json=as_json)


@app.command()
def thaw(org: OrgId, actor: Actor = "", cause: Cause = "", as_json: output.AsJson = False) -> None:
    """Let an org call again that was frozen here; a freeze by billing stays."""
    _set(org, "active", author(actor, cause or "org thaw"), as_json=as_json)


def _set(org: str, status: str, by: Author, *, as_json: bool) -> None:
    found = asyncio.run(_set_status(org, status, by))
    if status == "active" and found.billing_status == "frozen":
        output.complain(f"Org {org} is still refused: its billing_status is frozen.")
    output.show({"org": org, "status": status}, f"Org {org} is {status}.", as_json=as_json)


def _document(found: OrgDetail) -> dict[str, object]:
    created_at = found.created_at.astimezone(UTC).isoformat(timespec="seconds")
    return {**found._asdict(), "created_at": created_at.replace("+00:00", "Z")}


async def _add(org: str, options: OrgOptions, limits: dict[str, str]) -> tuple[bool, OrgDetail]:
    by = author(options.actor, "org add")
    async with open_clients(environment.load()) as clients:
        zone, customer = options.timezone, options.stripe_customer
        is_new = await add_org(clients, org, zone, limits, by, customer)
        return is_new, await find_org(clients, org)


async def _list() -> list[Org]:
    async with open_clients(environment.load()) as clients:
        return await list_orgs(clients)


async def _find(org: str) -> OrgDetail:
    async with open_clients(environment.load()) as clients:
        return await find_org(clients, org)


async def _set_status(org: str, status: str, by: Author) -> OrgDetail:
    async with open_clients(environment.load()) as clients:
        await set_status(clients, org, status, by)
        return await find_org(clients, org)
