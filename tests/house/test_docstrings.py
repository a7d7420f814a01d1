"""What is public says what one may rely on, and a test says its promise."""

import ast
import re
from pathlib import Path

import pytest

from tests.house.sources import PYTHON, Function, module, name, tree

Owner = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

# Words that say nothing by themselves; letters that stand alone say nothing either.
SILENT = {"an", "and", "at", "by", "for", "from", "in", "is", "it", "its", "of", "on", "one", "or"}
SILENT |= {"return", "returns", "that", "the", "this", "to", "was", "what", "which", "with"}
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ENDING = re.compile(r"(?<=[a-z]{3})(?:ing|ed|es|s|e)$")


def words(text: str) -> set[str]:
    """Return the words of a text or an identifier that say something, without their endings."""
    found = re.findall(r"[a-z]{2,}", _HUMP.sub(" ", text).lower())
    return {_ENDING.sub("", word) for word in found if word not in SILENT}


def restates(docstring: str, identifier: str) -> bool:
    """Whether a docstring says no more than the name that stands above it."""
    return words(docstring) <= words(identifier)


def public(path: Path) -> list[tuple[str, Owner]]:
    """Return the module, its public functions and classes, and their public methods, by name."""
    found: list[tuple[str, Owner]] = [(module(path), tree(path))]
    for node in tree(path).body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            found.append((node.name, node))
            inner = node.body if isinstance(node, ast.ClassDef) else []
            methods = [method for method in inner if isinstance(method, Function)]
            found += [(method.name, method) for method in methods if method.name[0] != "_"]
    return found


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_public_things_have_a_docstring(path: Path) -> None:
    """Every module, public function, class, method and test has a docstring."""
    bare = [identifier for identifier, node in public(path) if not ast.get_docstring(node)]

    assert not bare, f"Say what a caller of {bare} may rely on; of a test, its promise."


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_docstrings_say_more_than_the_name(path: Path) -> None:
    """A docstring that restates the name above it costs a line and says nothing."""
    marker = [tree(path)] if len(tree(path).body) == 1 else []
    empty = [
        identifier
        for identifier, node in public(path)
        # A package without code has nothing to promise.
        if node not in marker and restates(ast.get_docstring(node) or "?", identifier)
    ]

    assert not empty, f"The docstring of {empty} restates the name: say what is surprising."


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_docstrings_are_sentences(path: Path) -> None:
    """The first paragraph of a docstring ends as a sentence does."""
    cut = [
        identifier
        for identifier, node in public(path)
        if (ast.get_docstring(node) or ".").partition("\n\n")[0][-1] not in ".:?"
    ]

    assert not cut, f"End the first sentence of the docstring of {cut}."


@pytest.mark.parametrize(
    ("docstring", "identifier", "is_empty"),
    [
        ("Open the pool.", "open_pool", True),
        ("Returns one agent's names.", "agent_name", True),
        ("The sweeper metrics.", "SweeperMetrics", True),
        ("What the sweeper counts.", "SweeperMetrics", False),
        ("Return a pool that refuses after a second.", "open_pool", False),
    ],
)
def test_restating_is_told_from_saying(docstring: str, identifier: str, is_empty: bool) -> None:
    """Articles and endings do not make a name a sentence, one word of substance does."""
    assert restates(docstring, identifier) is is_empty
