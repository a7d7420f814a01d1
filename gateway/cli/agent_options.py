"""The options of ``agent add``: one for every member of an agent's description."""

from typing import Annotated, NamedTuple

import typer

from gateway.domain.agent import Dialect, OnOutgrow, OnUnpriced, PriceMode
from gateway.errors import BadRequest

# Which options are members of a table of the description, and of which one.
_PRICE = ("cents", "ceiling_cents", "output_default")
_TIMEOUTS = ("connect_s", "read_s", "idle_s")


class AgentOptions(NamedTuple):
    """What was typed; None is a member that is left to its default."""

    upstream: Annotated[str, typer.Option(help="http:// or https://, a host and a path.")]
    price: Annotated[PriceMode, typer.Option(help="What a call costs.")]
    cents: Annotated[
        str | None, typer.Option(help="Cents of a call: of a flat price, or --on-unpriced flat.")
    ] = None
    ceiling_cents: Annotated[
        str | None, typer.Option(help="The most cents that are held; reported needs it.")
    ] = None
    output_default: Annotated[
        int | None, typer.Option(help="Tokens of an answer where the call sets no maximum.")
    ] = None
    dialect: Annotated[
        Dialect | None, typer.Option(help="What the upstream speaks; auto looks at the path.")
    ] = None
    on_unpriced: Annotated[
        OnUnpriced | None, typer.Option(help="A model without a price: deny, flat, allow.")
    ] = None
    charge_errors: Annotated[
        bool | None,
        typer.Option("--charge-errors/--no-charge-errors", help="Charge failed answers too."),
    ] = None
    on_outgrow: Annotated[
        OnOutgrow | None, typer.Option(help="A stream that costs more than is held.")
    ] = None
    header: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE: a literal, env:GATEWAY_CREDENTIAL_X or file:NAME."),
    ] = None
    connect_s: Annotated[float | None, typer.Option(help="Seconds to connect.")] = None
    read_s: Annotated[float | None, typer.Option(help="Seconds to the head of an answer.")] = None
    idle_s: Annotated[float | None, typer.Option(help="Seconds between two chunks.")] = None


def description_of(options: AgentOptions) -> dict[str, object]:
    """Return the description that the options make, with the members that were named.

    Raises:
        BadRequest: a header is no ``NAME=VALUE``, or is named twice.
    """
    given = {name: value for name, value in options._asdict().items() if value is not None}
    price = {"mode": given.pop("price")}
    price |= {name: given.pop(name) for name in _PRICE if name in given}
    timeouts = {name: given.pop(name) for name in _TIMEOUTS if name in given}
    headers = _headers(given.pop("header", []))
    tables = {"price": price, "headers": headers, "timeouts": timeouts}
    return given | {name: table for name, table in tables.items() if table}


def _headers(texts: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            # Not repeated, because it may be a secret.
            raise BadRequest("A header is no NAME=VALUE; expected one such as x-team=research.")
        if name in headers:
            raise BadRequest(f"header {name} is named twice; expected it once.")
        headers[name] = value
    return headers
