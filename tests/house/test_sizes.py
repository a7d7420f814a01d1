"""Nothing grows until it cannot be read in one sitting. There is no list of exceptions.

The number of parameters is ruff's to check.
"""

import ast
from pathlib import Path

import pytest

from tests.house.sources import (
    INCLUDES,
    PYTHON,
    READMES,
    ROOT,
    SCRIPTS,
    Function,
    lines,
    name,
    tree,
)

MODULE_LINES, FUNCTION_LINES, SCRIPT_LINES, INCLUDE_LINES, README_LINES = 300, 70, 120, 40, 200
# What every call runs through is read most often, and by people in a hurry.
HOT_PATH, HOT_PATH_LINES = ROOT / "gateway" / "proxy" / "forward.py", 250
LUA_COLUMNS = 100


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_module_fits(path: Path) -> None:
    """A module has at most 300 lines; a test module that is a table may have 400."""
    most = MODULE_LINES + 100 * (ROOT / "tests" in path.parents)

    assert len(lines(path)) <= most, "Give one of its nouns a module of its own."


def test_hot_path_fits() -> None:
    """The story of a call is one file of at most 250 lines."""
    assert len(lines(HOT_PATH)) <= HOT_PATH_LINES, "Move what is no part of the story beside it."


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_functions_fit(path: Path) -> None:
    """A function has at most 70 lines."""
    for node in ast.walk(tree(path)):
        if isinstance(node, Function):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{node.name} has {length} lines: name its parts."


@pytest.mark.parametrize("path", [*SCRIPTS, *INCLUDES], ids=name)
def test_script_fits(path: Path) -> None:
    """A script has at most 120 lines of 100 columns with its header, an include 40."""
    most = SCRIPT_LINES if path in SCRIPTS else INCLUDE_LINES

    assert len(lines(path)) <= most, "Move a step into an include."
    assert max(map(len, lines(path))) <= LUA_COLUMNS, "Break the line."


@pytest.mark.parametrize("path", [ROOT / "README.md", *READMES], ids=name)
def test_readme_fits(path: Path) -> None:
    """A README has at most 200 lines."""
    assert len(lines(path)) <= README_LINES, "Say what it is, is not, and promises; no more."
