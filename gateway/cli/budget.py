"""The commands ``budget``: where budgets stand, what raises or resets one, what a call has cost."""

import asyncio
import contextlib
import signal
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.live import Live

from gateway.budgets.changes import Credit
from gateway.cli import environment, explain, output, standings
from gateway.cli.author import Actor, author
from gateway.cli.bookkeeping import open_bookkeeping
from gateway.cli.clients import open_clients, open_redis
from gateway.domain.money import (
    AMOUNT_MICROCENTS_MAX,
    cents_from_microcents,
    microcents_from_cents,
)
from gateway.errors import BadRequest
from gateway.registry.credits import give_credit
from gateway.registry.limits import Author
from gateway.registry.standings import Standing, Standings, read_standings, standing_of

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command("explain")(explain.run)

_WATCH_EVERY_S = 1.0
_TOP_COLUMNS = ("agent", "spent_cents", "held_cents", "limit_cents", "available_cents")

Org = Annotated[str, typer.Argument(help="The org.")]
BudgetName = Annotated[
    str, typer.Argument(metavar="BUDGET", help="Such as org.month or agent.researcher.day.")
]
Cause = Annotated[str, typer.Option(help="Why; kept with the credit.")]


class Given(NamedTuple):
    """A credit, the word of Redis, and its budget before; no credit where none was needed."""

    credit: Credit | None
    word: str
    standing: Standing


@app.command()
def show(
    org: Org,
    watch: Annotated[bool, typer.Option("--watch", help="Draw it anew every second.")] = False,
    as_json: output.AsJson = False,
) -> None:
    """Show every budget of an org that is limited or was spent from, in exact cents."""
    if watch and as_json:
        raise BadRequest("--watch draws for people; take one of --watch and --json.")
    if watch:
        # Ctrl-C is how a watch ends, not a fault.
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_watch(org))
        return
    found = asyncio.run(_read(org))
    output.show(standings.document(found), standings.drawn(found), as_json=as_json)


@app.command()
def top(org: Org, as_json: output.AsJson = False) -> None:
    """Show the agents of an org by what they have spent in the running month."""
    found = asyncio.run(_read(org))
    month = next((window for window in found.windows if window.kind == "month"), None)
    if month is None:
        raise BadRequest("This deployment does not count months; budget show has what it counts.")
    agents = [
        standing
        for standing in found.standings
        if standing.window == month and standing.scope != "org"
    ]
    agents.sort(key=lambda standing: -standing.counters.spent_microcents)
    rows = [
        {"agent": standing.scope.removeprefix("agent."), **standings.row(org, standing)}
        for standing in agents
    ]
    shown = [{column: row[column] for column in _TOP_COLUMNS} for row in rows]
    document = {"org": org, "window_id": month.id, "agents": shown}
    text = output.table(_TOP_COLUMNS, [list(row.values()) for row in shown])
    output.show(document, text, as_json=as_json)


@app.command()
def credit(
    org: Org,
    budget: BudgetName,
    cents: Annotated[str, typer.Argument(help="Cents; put -- before a negative number.")],
    cause: Cause,
    actor: Actor = "",
    as_json: output.AsJson = False,
) -> None:
    """Raise, or lower, what a budget may spend in its running window; spent stays as it is."""
    amount_microcents = _signed_microcents(cents)
    given = asyncio.run(_give((org, budget), amount_microcents, author(actor, cause)))
    tell(org, given, as_json=as_json)


@app.command()
def reset(
    org: Org, budget: BudgetName, cause: Cause, actor: Actor = "", as_json: output.AsJson = False
) -> None:
    """Credit what a budget has spent in its running window, so that its whole limit is free again.

    What credits cover already is not credited once more, so a reset may be repeated.
    """
    given = asyncio.run(_give((org, budget), None, author(actor, cause)))
    tell(org, given, as_json=as_json)


def tell(org: str, given: Given, *, as_json: bool) -> None:
    """Write what became of a credit; exit code 3 where its window has ended in between."""
    change, word, standing = given
    budget_id, window_id = f"{org}:{standing.scope}.{standing.window.kind}", standing.window.id
    cents = cents_from_microcents(change.amount_microcents if change is not None else 0)
    document = {
        "credit_id": change.id if change is not None else None,
        "budget_id": budget_id,
        "window_id": window_id,
        "amount_cents": cents,
        "word": word,
    }
    place = f"{budget_id} in {window_id}" if window_id else budget_id
    if word == "GONE":
        sentence = f"The window {window_id} of {budget_id} has just ended: nothing was credited."
    elif word == "COLD":
        sentence = f"Redis does not know {org} yet; the worker credits {place} once it does."
    elif change is None:
        sentence = f"Nothing to credit: what {place} has spent is covered by its credits."
    else:
        sentence = f"Credited {cents} cents to {place} as {change.id}."
    output.show(document, sentence, as_json=as_json)
    if word == "GONE":
        raise typer.Exit(output.CHECK_FAILED)


async def _read(org: str) -> Standings:
    async with open_redis(environment.load()) as redis:
        return await read_standings(redis, org)


async def _watch(org: str) -> None:
    # Not by a cancellation: a client library that is just running into its timeout takes that for
    # its own, and the watch would go on.
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopped.set)
    stopping = asyncio.create_task(stopped.wait())
    async with open_redis(environment.load()) as redis:
        found = await read_standings(redis, org)
        console = Console(markup=False, highlight=False)
        with Live(standings.drawn(found), console=console, auto_refresh=False) as live:
            while not stopping.done():
                live.update(standings.drawn(await read_standings(redis, org)), refresh=True)
                await asyncio.wait([stopping], timeout=_WATCH_EVERY_S)


async def _give(budget: tuple[str, str], amount_microcents: int | None, by: Author) -> Given:
    settings, (org, name) = environment.load(), budget
    async with open_clients(settings) as clients, open_bookkeeping(settings) as budgets:
        found = await read_standings(clients.redis, org)
        standing = standing_of(found, name)
        if found.invalid.get("org") == "timezone" and standing.window.kind != "total":
            raise BadRequest(f"timezone of {org} is no zone, so no window can open: set it first.")
        if amount_microcents is None:
            spent, _, credited = standing.counters
            if spent <= credited:
                return Given(None, "OK", standing)
            amount_microcents = spent - credited
        place = (standing.scope, standing.window.kind, standing.window.id)
        change, word = await give_credit(clients, budgets, org, place, amount_microcents, by)
        return Given(change, word, standing)


def _signed_microcents(cents: str) -> int:
    amount_microcents = microcents_from_cents(cents.removeprefix("-"))
    if not amount_microcents:
        most = cents_from_microcents(AMOUNT_MICROCENTS_MAX)
        raise BadRequest(
            f"cents is {cents!r}; expected a number other than 0 with at most 6 decimals, "
            f"from -{most} to {most}."
        )
    return -amount_microcents if cents.startswith("-") else amount_microcents
