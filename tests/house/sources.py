"""The files of the house, for the tests of its rules."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FOLDERS = ("gateway", "workers", "bench", "tests")
PYTHON = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
# What is installed; tests and bench stay in the checkout.
PRODUCT = [path for path in PYTHON if path.relative_to(ROOT).parts[0] in ("gateway", "workers")]
SCRIPTS = sorted((ROOT / "lua").glob("*.lua"))
INCLUDES = sorted((ROOT / "lua" / "include").glob("*.lua"))
SQL = sorted((ROOT / "gateway").rglob("*.sql"))
READMES = sorted(
    path for folder in ("lua", "deploy", *FOLDERS) for path in (ROOT / folder).rglob("README.md")
)

Function = ast.FunctionDef | ast.AsyncFunctionDef

# Words of a drawing may stand two blanks apart.
_GAP = re.compile(r" {3,}")
_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    """Return a path as messages show it."""
    return str(path.relative_to(ROOT))


def module(path: Path) -> str:
    """Return the dotted name under which a file is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def lines(path: Path) -> list[str]:
    """Return the lines of a file."""
    return text(path).splitlines()


@cache
def text(path: Path) -> str:
    """Return what a file holds."""
    return path.read_text(encoding="utf-8")


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a Python file."""
    return ast.parse(text(path))


def readme(folder: str) -> str:
    """Return the README of a room."""
    return text(ROOT / folder / "README.md")


def set_as_code(markdown: str) -> str:
    """Return what a README sets as code: words between backticks, and the left side of drawings.

    A word of the prose around it, or of what a drawing says on its right side, documents nothing.
    """
    drawn = "\n".join(_CODE.findall(markdown)).splitlines()
    return "\n".join(_GAP.split(line.strip(), maxsplit=1)[0] for line in drawn)
