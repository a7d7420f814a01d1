"""The command ``reconcile``: counters against the ledger and the open holds, at one cut."""

import asyncio
from typing import Annotated

import typer

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.keys import NODE
from gateway.cli import environment, output
from gateway.cli.bookkeeping import open_bookkeeping
from gateway.cli.clients import open_clients
from gateway.errors import StoreError, StoreNotReady, StoreUnavailable
from gateway.registry.clients import Clients, require_org, run_id_of
from gateway.registry.differences import Comparison, amount_text, compare
from gateway.registry.mending import mend
from gateway.registry.orgs import list_orgs
from gateway.registry.recovery import run_in_doubt

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
    comparisons, failed = asyncio.run(_reconcile(org, wait_s, repair=repair))
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
    is_posted = all(comparison.is_posted for comparison in comparisons)
    is_ok = is_posted and not differences and not failed
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
        "failed": [{"org": name, "error": why} for name, why in failed.items()],
    }
    if as_json:
        output.show(document, "", as_json=True)
    else:
        for comparison in comparisons:
            output.say(_sentence(comparison, wait_s))
        if differences:
            output.show(None, output.table(_COLUMNS, differences))
    for name, why in failed.items():
        output.complain(f"{name}: not compared. {why}")
    if not is_ok:
        raise typer.Exit(output.CHECK_FAILED)


async def _reconcile(
    org: str, wait_s: float, *, repair: bool
) -> tuple[list[Comparison], dict[str, str]]:
    """Return what came of each org, and why some could not be compared."""
    settings = environment.load()
    comparisons, failed = list[Comparison](), dict[str, str]()
    async with open_clients(settings) as clients, open_bookkeeping(settings) as budgets:
        if org:
            await require_org(clients, org)
        if repair:
            await _require_compared(clients, budgets)
        for name in [org] if org else [known.org for known in await list_orgs(clients)]:
            try:
                if repair:
                    found = await mend(clients, budgets, name, wait_s)
                    if found.differences:
                        output.complain(f"{_sentence(found, wait_s)} A repair was asked for.")
                comparison = await compare(clients, budgets, name, wait_s)
            except StoreUnavailable:
                raise
            except StoreError as error:
                # Somebody has damaged this one; the others are compared all the same.
                failed[name] = str(error)
                continue
            comparisons.append(comparison)
            # Where the worker is too late for one org, it is for the next one too.
            if not comparison.is_posted:
                break
    return comparisons, failed


async def _require_compared(clients: Clients, budgets: Bookkeeping) -> None:
    """Leave a start of Redis that is in doubt to the worker.

    Once counters are repaired it could not tell any more that Redis has lost writes.
    """
    # A marker without a life is of a deployment whose worker has never run.
    if await clients.redis.hget(NODE, "life") is None:
        return
    if await run_in_doubt(clients, await run_id_of(clients.redis)):
        raise StoreNotReady(
            "Redis was started again or rebuilt, and no worker has compared it yet; it does so as "
            "soon as one runs, and repairs what differs."
        )


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
