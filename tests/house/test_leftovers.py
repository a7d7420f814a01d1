"""Nothing is left over: no note to self, no dead line, no file that nothing uses."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.sources import (
    FOLDERS,
    INCLUDES,
    PRODUCT,
    PYTHON,
    ROOT,
    SCRIPTS,
    SQL,
    Function,
    module,
    name,
    text,
    tree,
)

LEFTOVERS = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b|#\s*(?:noqa|type:\s*ignore)")
# What Lua or Postgres would run: it ends as code does, or begins with a word that only code has.
DEAD_CODE = re.compile(
    r"^\s*--\s*(?:local \w|return\b.*[({'\"]|redis\.call|if .* then$|end\)?$|\w+\(.*\)$|.*;$)",
    re.MULTILINE,
)
STATEMENTS = [path for path in SQL if path.parent.name == "sql"]


def mentions(path: Path) -> Iterator[str]:
    """Yield each module that a file imports, or names in a text, as the dispatch table does."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("path", [*PYTHON, *SCRIPTS, *INCLUDES, *SQL], ids=name)
def test_no_note_to_self_is_left(path: Path) -> None:
    """No note to self and no silenced checker stays in the code."""
    found = LEFTOVERS.findall(text(path)) if path != Path(__file__) else []

    assert not found, f"{found}: do it now, or open an issue; mend what the checker says."


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_nothing_is_printed(path: Path) -> None:
    """What a process says goes through a log line, a command's output, or a plain write."""
    calls = [
        node.lineno
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id == "print"
    ]

    assert not calls, f"Lines {calls} print: use structlog, cli/output or sys.stdout.write."


@pytest.mark.parametrize("path", [p for p in PYTHON if ROOT / "tests" not in p.parents], ids=name)
def test_imports_stand_at_the_top(path: Path) -> None:
    """No function imports: a circle of modules would hide in it."""
    importing = [
        function.name
        for function in ast.walk(tree(path))
        if isinstance(function, Function)
        if any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(function))
    ]

    assert not importing, f"{importing} imports: move it to the top, or the code to its floor."


def test_no_python_is_commented_out() -> None:
    """Code that does not run is deleted; git remembers it."""
    ruff = Path(sys.executable).with_name("ruff")
    options = ("--isolated", "--no-cache", "--quiet", "--select", "ERA")
    result = subprocess.run(
        [ruff, "check", *options, *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, f"Delete the code in these comments:\n{result.stdout}"


@pytest.mark.parametrize("path", [*SCRIPTS, *INCLUDES, *SQL], ids=name)
def test_no_script_or_statement_is_commented_out(path: Path) -> None:
    """Lua and SQL that do not run are deleted too."""
    found = DEAD_CODE.findall(re.sub(r"--\[\[.*?\]\]", "", text(path), flags=re.DOTALL))

    assert not found, f"Delete the code in these comments: {found}."


@pytest.mark.parametrize(
    ("comment", "is_dead"),
    [
        ("-- local hold = read_hold(record)", True),
        ("    -- redis.call('DEL', KEYS[4])", True),
        ("-- return answer('GONE')", True),
        ("-- DELETE FROM outbox;", True),
        ("-- read_hold, read_end: the packed records.", False),
        ("-- HINCRBY refuses '-0'.", False),
        ("-- RETURNS: the rows taken; is_over where the first try lies too far back.", False),
    ],
)
def test_dead_code_is_told_from_a_comment(comment: str, is_dead: bool) -> None:
    """A comment may name a function or a command; it may not be one."""
    assert (DEAD_CODE.search(comment) is not None) is is_dead


@pytest.mark.parametrize("path", [p for p in PRODUCT if p.stem[0] != "_"], ids=name)
def test_module_is_used(path: Path) -> None:
    """Each module is imported by another one, or named by the dispatch table of the commands."""
    users = [user for user in PRODUCT if user != path and module(path) in set(mentions(user))]

    assert users, f"Nothing that is installed uses {module(path)}: delete it."


@pytest.mark.parametrize("path", STATEMENTS, ids=name)
def test_statement_is_used(path: Path) -> None:
    """Each statement is read by some module."""
    call = f'statement("{path.stem}")'

    assert [user for user in PRODUCT if call in text(user)], f"Nothing says {call}: delete it."
