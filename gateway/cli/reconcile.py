"""The command ``reconcile``: counters against the ledger and the open holds, at one cut."""

import asyncio
from typing import Annotated

import typer

from gateway.cli import environment, output
from gateway.cli.bookkeeping import open_bookkeeping
from gateway.cli.clients import open_clients
from gateway.registry.clients import require_org
from gateway.registry.differences import Comparison, amount_text, compare
from gateway.registry.mending import mend
from gateway.registry.orgs import list_orgs

_COLUMNS = ("budget_id", "window_id", "counter", "found", "expected", "difference")


def run(
    org: Annotated[str, typer.Argument(help="One org; every org where none is named.")] = "",
    wait_s: Annotated[
        float, typer.Option(min=0, help="How long to wait for the worker, per org.")
    ] = 10.0,
    repair: Annotated[
        bool, typer.Option("--repair", help="Ask for a repair of what differs, and wait for it.")
    ] = False,
    as_json: output.AsJson = False,
) -> None:
    """Compare Redis with the ledger: exit code 0, or 3 and each difference.

    Nothing is changed without --repair. With it the differences of before are told on standard
    error, and the exit code is that of a second look.
    """
    comparisons = asyncio.run(_reconcile(org, wait_s, repair=repair))
    differences = [
        (
            difference.budget_id,
            difference.window_id,
            difference.counter,
            *(
                amount_text(difference.counter, amount)
                for amount in (
                    difference.found,
                    difference.expected,
                    difference.found - difference.expected,
                )
            ),
        )
        for comparison in comparisons
        for difference in comparison.differences
    ]
    is_ok = not differences and all(comparison.is_posted for comparison in comparisons)
    document = {
        "ok": is_ok,
        "orgs": [
            {
                "org": comparison.org,
                "journal_id": comparison.journal_id,
                "posted": comparison.is_posted,
                "compared": comparison.compared,
            }
            for comparison in comparisons
        ],
        "differences": [dict(zip(_COLUMNS, row, strict=True)) for row in differences],
    }
    if as_json:
        output.show(document, "", as_json=True)
    else:
        for comparison in comparisons:
            output.say(_sentence(comparison, wait_s))
        if differences:
            output.show(None, output.table(_COLUMNS, differences))
    if not is_ok:
        raise typer.Exit(output.CHECK_FAILED)


async def _reconcile(org: str, wait_s: float, *, repair: bool) -> list[Comparison]:
    settings = environment.load()
    comparisons = list[Comparison]()
    async with open_clients(settings) as clients, open_bookkeeping(settings) as budgets:
        if org:
            await require_org(clients, org)
        for name in [org] if org else [known.org for known in await list_orgs(clients)]:
            if repair:
                found = await mend(clients, budgets, name, wait_s)
                if found.differences:
                    output.complain(f"{_sentence(found, wait_s)} A repair was asked for.")
            comparisons.append(await compare(clients, budgets, name, wait_s))
            # Where the worker is too late for one org, it is for the next one too.
            if not comparisons[-1].is_posted:
                break
    return comparisons


def _sentence(comparison: Comparison, wait_s: float) -> str:
    org, journal_id, is_posted, compared, differences, _ = comparison
    if not is_posted:
        return (
            f"{org}: not compared, the ledger has not posted the journal up to {journal_id} "
            f"within {wait_s:g} s; is the worker running?"
        )
    if differences:
        return f"{org}: {len(differences)} of {compared} counters differ at {journal_id}."
    return f"{org}: all {compared} counters agree at {journal_id}."
