"""Every script has its file of numbered invariants, and every number has a test."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.house.sources import ROOT, SCRIPTS, Function, name, tree

CONFORMANCE = sorted((ROOT / "tests" / "lua").glob("test_*.py"))
_LISTED = re.compile(r"^([A-Z]\d+) ", re.MULTILINE)
_NAMED = re.compile(r"((?:[A-Z]\d+ ?)+): ")


def listed(path: Path) -> list[str]:
    """Return the numbers of the invariants that the docstring of a file lists."""
    return _LISTED.findall(ast.get_docstring(tree(path)) or "")


def named(path: Path) -> dict[str, list[str]]:
    """Return the numbers with which the docstring of each test begins."""
    tests = [node for node in tree(path).body if isinstance(node, Function)]
    found = {
        test.name: _NAMED.match(ast.get_docstring(test) or "")
        for test in tests
        if test.name.startswith("test_")
    }
    return {test: number[1].split() if number else [] for test, number in found.items()}


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_script_has_its_conformance_file(path: Path) -> None:
    """What a script promises stands as numbered invariants in one file of its name."""
    file = ROOT / "tests" / "lua" / f"test_{path.stem}.py"

    assert file in CONFORMANCE, f"Promise what {path.stem} does in {name(file)}."
    assert listed(file), f"List the invariants of {path.stem} in the docstring of {name(file)}."


@pytest.mark.parametrize("path", [path for path in CONFORMANCE if listed(path)], ids=name)
def test_every_invariant_is_tested(path: Path) -> None:
    """Each number that is listed begins the docstring of a test, and each test has one of them."""
    numbers = {number for test in named(path).values() for number in test}
    untested, unlisted = set(listed(path)) - numbers, numbers - set(listed(path))
    bare = [test for test, found in named(path).items() if not found]

    assert not bare, f"Begin the docstring of {bare} with the number of its invariant."
    assert not unlisted, f"List {unlisted} in the docstring of the file, or name what is meant."
    assert not untested, f"Test {untested}: the docstring of the file promises it."


def test_number_stands_for_one_invariant() -> None:
    """No two files, and no two lines of one, give the same number."""
    count = Counter(number for path in CONFORMANCE for number in listed(path))
    twice = [number for number, times in count.items() if times > 1]

    assert not twice, f"{twice} are listed twice: number them on."
