"""The command ``usage``: calls, tokens and cost of an org, out of the ledger."""

import asyncio
from datetime import date, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from gateway.cli import environment, output
from gateway.cli.clients import open_ledger
from gateway.domain.money import cents_from_microcents
from gateway.errors import BadRequest
from gateway.ledger.usage import By, UsageSum, sum_usage, total_of, zone_of

_UNKNOWN = "unknown"
# Instants of other years are none in every zone.
_YEAR_MIN, _YEAR_MAX = 1970, 9998


def run(
    org: Annotated[str, typer.Argument(help="The org.")],
    first: Annotated[
        str, typer.Option("--from", help="First day, such as 2026-11-01; else of this month.")
    ] = "",
    last: Annotated[str, typer.Option("--to", help="Last day, included; else today.")] = "",
    by: Annotated[By, typer.Option(help="What to sum by.")] = "agent",
    as_json: output.AsJson = False,
) -> None:
    """Show what an org has used in days of its own zone. Corrections count on the call's day."""
    days, sums = asyncio.run(_sum(org, (first, last), by))
    columns = (by, "calls", "input_tokens", "output_tokens", "cost_cents")
    rows = [_row(found) for found in sums]
    total = _row(total_of(sums))
    document = {
        "org": org,
        "from": days[0].isoformat(),
        "to": days[1].isoformat(),
        "by": by,
        "rows": [dict(zip(columns, row, strict=True)) for row in rows],
        "total": dict(zip(columns[1:], total[1:], strict=True)),
    }
    output.show(document, output.table(columns, [*rows, total]), as_json=as_json)


async def _sum(
    org: str, texts: tuple[str, str], by: By
) -> tuple[tuple[date, date], list[UsageSum]]:
    async with open_ledger(environment.load()) as pool:
        zone = await zone_of(pool, org)
        if zone is None:
            raise BadRequest(f"org {org} is not known; add it first.")
        today = datetime.now(ZoneInfo(zone)).date()
        last = _day("to", texts[1], today)
        first = _day("from", texts[0], last.replace(day=1))
        if first > last:
            raise BadRequest(f"from is {first}, after to, {last}; expected the earlier day first.")
        return (first, last), await sum_usage(pool, org, zone, (first, last), by)


def _day(name: str, text: str, default: date) -> date:
    if not text:
        return default
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(f"{name} is {text!r}; expected a day such as 2026-11-01.") from error
    if not _YEAR_MIN <= day.year <= _YEAR_MAX:
        raise BadRequest(f"{name} is {text!r}; expected a year from {_YEAR_MIN} to {_YEAR_MAX}.")
    return day


def _row(found: UsageSum) -> tuple[str, int, int, int, str]:
    name, calls, input_tokens, output_tokens, cost_microcents = found
    cost_cents = cents_from_microcents(cost_microcents)
    return name or _UNKNOWN, calls, input_tokens, output_tokens, cost_cents
