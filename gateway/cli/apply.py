"""The command ``apply``: orgs, limits and agents as a file describes them."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import environment, output
from gateway.cli.agent import warn_of_literals
from gateway.cli.author import Actor, author
from gateway.cli.clients import open_clients
from gateway.errors import BadRequest
from gateway.registry.description import DescribedOrg, read_description
from gateway.registry.limits import Author, deployment_windows
from gateway.registry.plan import Change, apply, plan

_REST = "What the file does not name stays as it is."


def run(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="Orgs, limits and agents.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; show what would change.")
    ] = False,
    actor: Actor = "",
    as_json: output.AsJson = False,
) -> None:
    """Make orgs, limits and agents what a file says; nothing is removed, repeat it at will.

    The whole file is checked before anything is written.
    """
    text = _text(file)
    by = author(actor, f"apply {file.name}")
    orgs, changes = asyncio.run(_run(text, by, dry_run=dry_run))
    for described in orgs:
        for agent, description in described.agents.items():
            warn_of_literals(f"orgs.{described.org}.agents.{agent}", description)
    changed = sum(change.change != "unchanged" for change in changes)
    document = {"dry_run": dry_run, "changed": changed, "changes": changes}
    output.show(document, output.table(Change._fields, changes), as_json=as_json)
    if not as_json:
        done = f"{changed} {'would be' if dry_run else 'are'} created or changed."
        output.say(f"{done if changed else 'Nothing to change.'} {_REST}")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{file} cannot be read: {error}.") from error


async def _run(text: str, by: Author, *, dry_run: bool) -> tuple[list[DescribedOrg], list[Change]]:
    async with open_clients(environment.load()) as clients:
        orgs = read_description(text, await deployment_windows(clients))
        changes = await (plan(clients, orgs) if dry_run else apply(clients, orgs, by))
        return orgs, changes
