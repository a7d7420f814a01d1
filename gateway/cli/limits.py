"""The commands ``limits``: what an org may spend, set with a record of who and why."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Annotated

import typer
from rich.console import Group, RenderableType

from gateway.cli import environment, output, standings
from gateway.cli.author import Actor, author
from gateway.cli.clients import open_clients, open_redis
from gateway.errors import BadRequest
from gateway.registry.clients import require_org
from gateway.registry.limits import (
    Author,
    LimitChange,
    LimitField,
    list_changes,
    plan_limits,
    plan_unset,
    read_limits,
    set_limits,
    unset_limits,
)
from gateway.registry.orgs import list_orgs
from gateway.registry.standings import Standings, read_standings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

_FIELD_COLUMNS = ("field", "value", "problem")
_ROWS_MAX = 10_000

# A field, what it was and what it is; None is not there.
Change = tuple[str, str | None, str | None]

Org = Annotated[str, typer.Argument(help="The org.")]
Cause = Annotated[str, typer.Option(help="Why; kept in the history.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Write nothing; show what would change, and its effect.")
]


@app.command("set")
def set_fields(
    org: Org,
    changes: Annotated[
        list[str], typer.Argument(metavar="FIELD=VALUE", help="org.month.limit_cents=5000 ...")
    ],
    dry_run: DryRun = False,
    actor: Actor = "",
    cause: Cause = "",
    as_json: output.AsJson = False,
) -> None:
    """Set fields of an org's limits, all or none; the next request obeys."""
    wanted = _assignments(changes)
    changed, after = asyncio.run(_set(org, wanted, author(actor, cause), dry_run=dry_run))
    _show(changed, after, as_json=as_json)


@app.command()
def unset(
    org: Org,
    fields: Annotated[list[str], typer.Argument(metavar="FIELD", help="Fields to remove.")],
    dry_run: DryRun = False,
    actor: Actor = "",
    cause: Cause = "",
    as_json: output.AsJson = False,
) -> None:
    """Remove fields of an org's limits; the next request obeys."""
    changed, after = asyncio.run(_unset(org, fields, author(actor, cause), dry_run=dry_run))
    _show(changed, after, as_json=as_json)


@app.command()
def get(org: Org, as_json: output.AsJson = False) -> None:
    """Show every field of an org, whoever set it, with a note where it is not valid."""
    fields = asyncio.run(_get(org))
    document = {"org": org, "fields": fields}
    output.show(document, output.table(_FIELD_COLUMNS, fields), as_json=as_json)


@app.command()
def check(
    org: Annotated[str, typer.Argument(help="One org; every org where none is named.")] = "",
    as_json: output.AsJson = False,
) -> None:
    """Find what is unknown, malformed or missing: exit code 0, or 3 and each field."""
    fields = asyncio.run(_check(org))
    problems = [
        {"org": name, "field": field.field, "value": field.value, "problem": field.problem}
        for name, found in fields.items()
        for field in found
        if field.problem is not None
    ]
    text: RenderableType = f"Every field of {', '.join(fields) or 'no org'} is known and valid."
    if problems:
        columns = ("org", "problem")
        text = output.table(columns, [[row[column] for column in columns] for row in problems])
    document = {"ok": not problems, "orgs": list(fields), "problems": problems}
    output.show(document, text, as_json=as_json)
    if problems:
        raise typer.Exit(output.CHECK_FAILED)


@app.command()
def history(
    org: Org,
    field: Annotated[str, typer.Argument(help="One field; all where none is named.")] = "",
    rows: Annotated[int, typer.Option(min=1, max=_ROWS_MAX, help="At most so many.")] = 100,
    as_json: output.AsJson = False,
) -> None:
    """Show who changed what and why, the newest first; changes by redis-cli leave no record."""
    changes = asyncio.run(_history(org, field, rows))
    document = {"org": org, "changes": [_recorded(change) for change in changes]}
    columns = LimitChange._fields
    text = output.table(columns, [list(_recorded(change).values()) for change in changes])
    output.show(document, text, as_json=as_json)


async def _set(
    org: str, wanted: Mapping[str, str], by: Author, *, dry_run: bool
) -> tuple[list[Change], Standings | None]:
    async with open_clients(environment.load()) as clients:
        if dry_run:
            planned = await plan_limits(clients, org, wanted)
            after = await read_standings(clients.redis, org, wanted)
        else:
            planned, after = await set_limits(clients, org, wanted, by), None
    return [(field, old, new) for field, (old, new) in planned.items()], after


async def _unset(
    org: str, fields: Sequence[str], by: Author, *, dry_run: bool
) -> tuple[list[Change], Standings | None]:
    async with open_clients(environment.load()) as clients:
        gone = await plan_unset(clients, org, fields)
        if dry_run:
            after = await read_standings(clients.redis, org, dict.fromkeys(fields))
        else:
            removed, after = await unset_limits(clients, org, fields, by), None
            gone = {field: gone[field] for field in removed}
    return [(field, old, None) for field, old in gone.items()], after


async def _get(org: str) -> list[LimitField]:
    # Only Redis: what is obeyed must be seen also while Postgres is away.
    async with open_redis(environment.load()) as redis:
        fields = await read_limits(redis, org)
    if all(field.value is None for field in fields):
        raise BadRequest(f"Redis has no limits of org {org}, so it refuses every call of it.")
    return fields


async def _check(org: str) -> dict[str, list[LimitField]]:
    async with open_clients(environment.load()) as clients:
        if org:
            await require_org(clients, org)
        names = [org] if org else [known.org for known in await list_orgs(clients)]
        return {name: await read_limits(clients.redis, name) for name in names}


async def _history(org: str, field: str, rows_max: int) -> list[LimitChange]:
    async with open_clients(environment.load()) as clients:
        return await list_changes(clients, org, field, rows_max)


def _assignments(texts: Sequence[str]) -> dict[str, str]:
    wanted = dict[str, str]()
    for text in texts:
        field, equals, value = text.partition("=")
        if not equals or not field or not value:
            raise BadRequest(f"{text!r} is no assignment; expected FIELD=VALUE.")
        if field in wanted:
            raise BadRequest(f"{field} is given twice; expected one value.")
        wanted[field] = value
    return wanted


def _show(changed: Sequence[Change], after: Standings | None, *, as_json: bool) -> None:
    document: dict[str, object] = {
        "dry_run": after is not None,
        "changes": [{"field": field, "before": old, "after": new} for field, old, new in changed],
    }
    verb = "Would change" if after is not None else "Changed"
    lines = [
        f"{verb} {field}: {old or 'nothing'} -> {new or 'nothing'}." for field, old, new in changed
    ]
    parts: list[RenderableType] = list(lines or ["Nothing to change: it is so already."])
    if after is not None:
        limited = [found for found in after.standings if found.budget is not None]
        rows = [standings.row(after.org, found) for found in limited]
        document |= {"budgets": rows, "invalid": after.invalid}
        parts += ["", standings.drawn(after, limited)]
    output.show(document, Group(*parts), as_json=as_json)


def _recorded(change: LimitChange) -> dict[str, str | None]:
    at = change.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {**change._asdict(), "at": at}
