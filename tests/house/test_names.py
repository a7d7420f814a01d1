"""Files are named for a noun, nothing is left over, and every setting is told."""

import ast
import re
from pathlib import Path

import pytest

from gateway.errors import GatewayError
from gateway.settings import PREFIX, Settings
from tests.house.sources import INCLUDES, PYTHON, ROOT, SCRIPTS, name

BANNED = {"utils", "helpers", "common", "core", "base", "manager", "service", "handler", "misc"}
LEFTOVERS = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b|#\s*(?:noqa|type:\s*ignore)")


def errors(root: type[GatewayError]) -> list[type[GatewayError]]:
    """Return an error class and all below it."""
    return [root, *(error for child in root.__subclasses__() for error in errors(child))]


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_file_is_named_for_its_noun(path: Path) -> None:
    """A name that fits everything says nothing."""
    assert path.stem not in BANNED


@pytest.mark.parametrize("path", [*PYTHON, *SCRIPTS, *INCLUDES], ids=name)
def test_nothing_is_left_over(path: Path) -> None:
    """No note to self and no silenced checker stays in the code."""
    if path != Path(__file__):
        assert LEFTOVERS.findall(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", [p for p in PYTHON if ROOT / "tests" not in p.parents], ids=name)
def test_imports_stand_at_the_top(path: Path) -> None:
    """No function imports: a circle of modules would hide in it."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = [n for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert inside == [], function.name


def test_every_setting_is_documented() -> None:
    """README has a row for each setting."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert [f for f in Settings.model_fields if f"`{PREFIX}{f.upper()}`" not in readme] == []


def test_error_tree_is_the_one_that_is_drawn() -> None:
    """The drawing in errors.py names every class, and each has a sentence of its own."""
    module = (ROOT / "gateway" / "errors.py").read_text(encoding="utf-8")
    drawing = module.partition('"""')[2].partition('"""')[0]

    assert [error.__name__ for error in errors(GatewayError) if error.__name__ not in drawing] == []
