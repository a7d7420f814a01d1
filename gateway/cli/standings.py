"""Standings as people and programs read them: one row per budget, exact cents."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType

from gateway.cli import output
from gateway.domain.money import cents_from_microcents
from gateway.registry.standings import Standing, Standings

COLUMNS = (
    "budget_id",
    "window_id",
    "mode",
    "limit_cents",
    "credit_cents",
    "spent_cents",
    "held_cents",
    "available_cents",
    "resets_at",
    "next_call",
)


def document(standings: Standings) -> dict[str, object]:
    """Return what a program reads; a limit of null is none."""
    return {
        "budgets": [row(standings.org, standing) for standing in standings.standings],
        "invalid": standings.invalid,
    }


def drawn(standings: Standings, found: Sequence[Standing] | None = None) -> RenderableType:
    """Return a table of some budgets, or of all, and a sentence for each field that refuses."""
    shown = standings.standings if found is None else found
    rows = [row(standings.org, standing) for standing in shown]
    cells = [[_cell(name, cells[name]) for name in COLUMNS] for cells in rows]
    sentences = [
        f"Every call of {scope if scope != 'org' else standings.org} is refused: "
        f"{field} is missing or not valid."
        for scope, field in standings.invalid.items()
    ]
    return Group(output.table(COLUMNS, cells), *sentences)


def row(org: str, standing: Standing) -> dict[str, str | None]:
    """Return one budget by column."""
    spent, held, credit = standing.counters
    limit = standing.budget.limit_microcents if standing.budget is not None else None
    values = (
        f"{org}:{standing.scope}.{standing.window.kind}",
        standing.window.id,
        standing.budget.mode if standing.budget is not None else None,
        _cents(limit),
        _cents(credit),
        _cents(spent),
        _cents(held),
        _cents(standing.available_microcents),
        _instant(standing.window.end_ms),
        standing.next_call,
    )
    return dict(zip(COLUMNS, values, strict=True))


def _cell(name: str, value: str | None) -> str:
    return "none" if value is None and name == "limit_cents" else value or ""


def _cents(amount_microcents: int | None) -> str | None:
    return None if amount_microcents is None else cents_from_microcents(amount_microcents)


def _instant(epoch_ms: int) -> str | None:
    # Total never ends.
    if not epoch_ms:
        return None
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
