"""The table of a campaign, and its place in the README."""

import re

from tests.campaign.play import Played

COLUMNS = (
    "seed",
    "faults",
    "calls",
    "answered",
    "executed",
    "settled",
    "expired",
    "latest hold s",
    "seconds",
    "wrong",
)
BEGIN, END = "<!-- campaign -->", "<!-- /campaign -->"
_PLACE = re.compile(f"(?<={BEGIN}\n).*?(?={END}\n)", re.DOTALL)
_WIDTH = 110


def table(played: Played) -> str:
    """Return what a campaign has done as a table of Markdown, and under it what has struck."""
    plan, seconds, struck, late_s, books = played
    row = (
        f"{plan.seed}",
        f"{plan.faults}",
        f"{books.calls:,}",
        f"{books.answered:,}",
        f"{books.executed:,}",
        f"{books.settled:,}",
        f"{books.expired:,}",
        f"{late_s:.1f}",
        f"{seconds:.0f}",
        f"{len(books.wrong)}",
    )
    named = sorted(struck.items())
    lines = [_line(COLUMNS), _line(["---:"] * len(COLUMNS)), _line(row), ""]
    return "\n".join([*lines, *_folded([f"{name} {count}" for name, count in named])]) + "\n"


def put(readme: str, text: str) -> str:
    """Return a README with this text between the marks.

    Raises:
        ValueError: the marks are not there, once each.
    """
    if len(_PLACE.findall(readme)) != 1:
        raise ValueError(f"The README has no {BEGIN} with its {END}, or more than one.")
    return _PLACE.sub(lambda _: text, readme)


def columns_of(readme: str) -> tuple[str, ...]:
    """Return the columns of the table that stands between the marks."""
    (found,) = _PLACE.findall(readme)
    return tuple(word.strip() for word in found.splitlines()[0].strip("|").split("|"))


def _line(words: "tuple[str, ...] | list[str]") -> str:
    return f"| {' | '.join(words)} |"


def _folded(words: list[str]) -> list[str]:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) + 2 > _WIDTH:
            lines[-1] += ","
            lines.append("")
        lines[-1] += f", {word}" if lines[-1] else word
    lines[-1] += "."
    return lines
