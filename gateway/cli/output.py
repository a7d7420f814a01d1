"""What a command says: JSON for programs, text for people, one sentence for a fault."""

import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

# The exit codes of every command; `raise typer.Exit(CHECK_FAILED)` ends one.
OK, USAGE, CHECK_FAILED, UNREACHABLE = 0, 2, 3, 4

AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON document.")]

# Where nobody looks at a screen, a line is as long as what it says.
_WIDTH_OF_FILES = 10_000


def show(document: object, text: RenderableType, *, as_json: bool = False) -> None:
    """Write the document as indented JSON, or the text as it is: no markup, no colour of values.

    A named tuple in the document is an object, a decimal is text.
    """
    if as_json:
        written = orjson.dumps(document, default=_plain, option=orjson.OPT_INDENT_2)
        sys.stdout.write(written.decode() + "\n")
        return
    width = None if sys.stdout.isatty() else _WIDTH_OF_FILES
    console = Console(width=width, markup=False, highlight=False)
    console.print(text, soft_wrap=isinstance(text, str))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table; a column whose name ends in ``cents`` or ``tokens`` is set flush right."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        right = column.endswith(("cents", "tokens"))
        drawn.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return drawn


def say(sentence: str) -> None:
    """Write one line that is no result, such as what was done or what comes next."""
    sys.stdout.write(sentence + "\n")
    sys.stdout.flush()


def complain(sentence: str) -> None:
    """Write one sentence to standard error."""
    sys.stderr.write(sentence + "\n")


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return value._asdict() if hasattr(value, "_asdict") else list(value)
    if isinstance(value, Decimal | Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form.")
