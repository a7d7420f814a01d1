"""The command ``budget explain``: the whole story of one call, equal to the microcent."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Group, RenderableType

from gateway.cli import environment, output
from gateway.cli.bookkeeping import open_bookkeeping
from gateway.cli.clients import open_clients
from gateway.domain.money import cents_from_microcents
from gateway.registry.story import Story, tell_story

_WINDOW_COLUMNS = ("window", "window_id", "org_spent_cents", "agent_spent_cents")
_JOURNAL_COLUMNS = ("kind", "journal", "amount_cents", "counted_cents", "at", "has_row")
_LEDGER_COLUMNS = (
    "kind",
    "amount_cents",
    "counted_cents",
    "at",
    "model",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "price_id",
    "source",
    "status",
    "duration_ms",
    "key_id",
    "entry_id",
    "journal",
)


def run(
    org: Annotated[str, typer.Argument(help="The org.")],
    id: Annotated[str, typer.Argument(help="A Budget-Request-Id.")],
    as_json: output.AsJson = False,
) -> None:
    """Tell what Redis, the journal and the ledger know of one call: exit code 3 where nothing."""
    story = asyncio.run(_tell(org, id))
    if not story.is_known:
        output.complain(
            f"Nothing is known of {id} in org {org}: it never reserved there, or it was released "
            "and that was forgotten."
        )
        raise typer.Exit(output.CHECK_FAILED)
    document = _document(story)
    output.show(document, _text(story, document), as_json=as_json)


async def _tell(org: str, reservation_id: str) -> Story:
    settings = environment.load()
    async with open_clients(settings) as clients, open_bookkeeping(settings) as budgets:
        return await tell_story(clients, budgets, org, reservation_id)


def _document(story: Story) -> dict[str, object]:
    return {
        "org": story.org,
        "id": story.id,
        "agent": story.agent,
        "reserved_at": _instant(story.reserved_at),
        "redis": _redis(story),
        "journal": [_journal(entry.source, entry.has_row, entry.fields) for entry in story.journal],
        "journal_is_whole": story.is_whole,
        "ledger": [_ledger(entry) for entry in story.entries],
        "billed_cents": cents_from_microcents(story.billed_microcents),
        "windows": [
            {
                "window": counted.window,
                "window_id": counted.window_id,
                "org_spent_cents": cents_from_microcents(counted.org_spent_microcents),
                "agent_spent_cents": cents_from_microcents(counted.agent_spent_microcents),
            }
            for counted in story.windows
        ],
        "dead": [{"source": source, "reason": reason} for source, reason in story.dead],
    }


def _redis(story: Story) -> dict[str, object] | None:
    if story.request is None:
        return None
    request = story.request
    return {
        "state": request.state,
        "owner": request.owner,
        "quote_cents": cents_from_microcents(request.quote_microcents),
        "cost_cents": cents_from_microcents(request.cost_microcents),
        "reserved_at": _instant_of(request.reserved_ms),
        "deadline_at": _instant_of(request.deadline_ms),
        "ended_at": _instant_of(request.ended_ms),
    }


def _journal(source: str, has_row: bool, fields: dict[str, str]) -> dict[str, object]:
    return {
        "kind": fields.get("kind"),
        "journal": source,
        "amount_cents": _cents(fields.get("amount")),
        "counted_cents": _cents(fields.get("counted")),
        "at": _instant_of(_number(fields.get("at_ms"))),
        "has_row": has_row,
        "detail": fields.get("detail"),
    }


def _ledger(entry: dict[str, object]) -> dict[str, object]:
    amounts = {
        f"{name}_cents": cents_from_microcents(int(str(entry[f"{name}_microcents"])))
        for name in ("amount", "counted")
    }
    at = entry["at"]
    shown = {**entry, **amounts, "at": _instant(at) if isinstance(at, datetime) else None}
    return {name: shown[name] for name in _LEDGER_COLUMNS}


def _text(story: Story, document: dict[str, object]) -> RenderableType:
    parts: list[RenderableType] = [
        f"{story.id} of {story.org}, agent {story.agent or 'unknown'}, reserved at "
        f"{_instant(story.reserved_at)}.",
        "",
        _sentence(story),
    ]
    if not story.is_whole:
        parts.append("The journal is too long to look through to its end.")
    parts += _section("Still in the journal:", _JOURNAL_COLUMNS, document["journal"])
    parts += _section("In the ledger:", _LEDGER_COLUMNS, document["ledger"])
    parts.append(f"It has cost {cents_from_microcents(story.billed_microcents)} cents in all.")
    parts += _section("It counts in these windows:", _WINDOW_COLUMNS, document["windows"])
    parts += _section("Kept aside, so not booked:", ("source", "reason"), document["dead"])
    return Group(*parts)


def _sentence(story: Story) -> str:
    redis = _redis(story)
    if redis is None:
        return "Redis knows nothing of it any more."
    words = [f"{name} {value}" for name, value in redis.items() if value is not None]
    return f"In Redis: {', '.join(words)}."


def _section(title: str, columns: tuple[str, ...], rows: object) -> list[RenderableType]:
    if not isinstance(rows, list) or not rows:
        return []
    # What no row has would only make the table wider.
    used = [column for column in columns if any(row[column] not in (None, "") for row in rows)]
    return ["", title, output.table(used, [[row[column] for column in used] for row in rows])]


def _cents(text: str | None) -> str | None:
    number = _number(text)
    return None if number is None else cents_from_microcents(number)


def _number(text: str | None) -> int | None:
    # What stands in the journal was not read yet, so it may be anything.
    return int(text) if text is not None and text.lstrip("-").isdecimal() else None


def _instant_of(epoch_ms: int | None) -> str | None:
    return _instant(datetime.fromtimestamp(epoch_ms / 1000, UTC)) if epoch_ms else None


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
