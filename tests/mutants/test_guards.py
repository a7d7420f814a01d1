"""The list of guards is one of guards that are there, and the machinery tells what it must.

N1 each guard's text is in its file exactly once, and each of its tests exists
N2 the list covers every room, and no name stands for two
N3 a few of them are removed here, the rest by ``make mutants``: their tests turn red
N4 only failures of its own tests kill a mutant
N5 a guard is put back, and a tree runs its own source
"""

import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.mutants.guard import Guard, guards
from tests.mutants.tree import ROOT, MutantError, Tree, mutated
from tests.mutants.trial import Run, judged, started

GUARDS = guards()
ROOMS = (
    *("lua/", "gateway/budgets/", "gateway/proxy/", "gateway/registry/", "gateway/ledger/"),
    *("gateway/ledger/sql/", "gateway/ledger/migrations/", "workers/"),
)
RED, GREEN = "tests/x/test_x.py::test_red", "tests/x/test_x.py::test_green"
GUARD = Guard("guard", "Why.", "lua/x.lua", "if a", "if b", (RED,), (GREEN,), False)


@cache
def functions(path: Path) -> set[str]:
    """Return the names of the functions of a module."""
    found = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("guard", GUARDS, ids=[guard.name for guard in GUARDS])
def test_guard_is_there(guard: Guard) -> None:
    """N1: where a line has moved, the list is to be corrected, or a guard is gone."""
    text = (ROOT / guard.file).read_text(encoding="utf-8")

    assert mutated(text, guard) != text
    assert not guard.file.startswith("tests/")


@pytest.mark.parametrize("guard", GUARDS, ids=[guard.name for guard in GUARDS])
def test_tests_of_a_guard_exist(guard: Guard) -> None:
    """N1: by their names; whether one has these parameters only a run can tell."""
    for test in guard.tests:
        path, _, name = test.partition("::")

        assert name.partition("[")[0] in functions(ROOT / path), test
    assert not set(guard.red) & set(guard.green)
    assert guard.red


def test_list_covers_every_room() -> None:
    """N2: scripts, Python and SQL."""
    assert len(GUARDS) >= 100
    for room in ROOMS:
        assert any(guard.file.startswith(room) for guard in GUARDS), room


def test_names_differ() -> None:
    """N2: a guard is named on the command line."""
    assert [name for name, count in Counter(g.name for g in GUARDS).items() if count > 1] == []


# Beside other tests on a busy machine one run may take seconds.
@pytest.mark.timeout(180)
def test_cheap_mutants_turn_their_tests_red(tmp_path: Path) -> None:
    """N3: which are green as the product is."""
    cheap = [guard for guard in GUARDS if guard.is_cheap]
    with started(Tree(tmp_path)) as bench:
        before = bench.run([test for guard in cheap for test in guard.tests])
        verdicts = [bench.attempt(guard) for guard in cheap]

    assert before.code == 0, before.output
    assert {test for guard in cheap for test in guard.tests} <= before.passed
    assert [(verdict.word, verdict.why) for verdict in verdicts] == [("killed", "")] * len(cheap)


@pytest.mark.parametrize(
    ("code", "passed", "failed", "word"),
    [
        (1, {GREEN}, {RED}, "killed"),
        (0, {GREEN, RED}, set(), "survived"),
        (1, {RED}, {GREEN}, "survived"),
        (1, set(), {GREEN, RED}, "broken"),
        (2, set(), set(), "broken"),
        (4, set(), set(), "broken"),
        (1, {GREEN}, set(), "broken"),
        (None, {GREEN}, {RED}, "broken"),
    ],
    ids=[
        *("killed", "all green", "another is red", "all red", "not collected", "no such test"),
        *("an error in a fixture", "hangs"),
    ],
)
def test_verdict(code: int | None, passed: set[str], failed: set[str], word: str) -> None:
    """N4: what cannot be loaded, found or ended says nothing of a guard."""
    run = Run(code, frozenset(passed), frozenset(failed), "")

    assert judged(GUARD, run)[0] == word


@pytest.mark.parametrize("text", ["", "if a then if a then"])
def test_guard_that_is_not_there_once_is_an_error(text: str) -> None:
    """N1: another one would be removed, or none."""
    with pytest.raises(MutantError, match="guard"):
        mutated(text, GUARD)


def test_guard_is_put_back(tmp_path: Path) -> None:
    """N5: to the byte, and as old as it was; the checkout is left alone."""
    guard, tree = GUARDS[0], Tree(tmp_path)
    path = tree.folder / guard.file
    before, times = path.read_bytes(), path.stat().st_mtime_ns

    with tree.without(guard):
        during = path.read_bytes()

    assert during != before
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, times)
    assert (ROOT / guard.file).read_bytes() == before


def test_tree_runs_its_own_source(tmp_path: Path) -> None:
    """N5: Python and scripts; else every mutant would survive, or none."""
    tree = Tree(tmp_path)
    code = "from gateway.budgets import scripts as s; print(s.__file__, s.script_dir())"

    said = subprocess.check_output(
        [sys.executable, "-P", "-c", code], cwd=tmp_path.parent, env=tree.environment, text=True
    )

    places = [tree.folder / "gateway" / "budgets" / "scripts.py", tree.folder / "lua"]
    assert said.split() == [str(place) for place in places]
