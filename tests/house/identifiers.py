"""Identifiers: the names that our files give to things, without those that others gave."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.house.sources import FOLDERS, Function, text, tree

_OURS_OR_STANDARD = {*FOLDERS, *sys.stdlib_module_names}
_COMMENT = re.compile(r"--\[\[.*?\]\]|--[^\n]*", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]\w*")


def identifiers(path: Path) -> set[str]:
    """Return the names of functions, classes and variables, or the words of a script or statement.

    In Lua and SQL words in quotes count too: fields and columns are named there.
    """
    if path.suffix == ".py":
        return set(_given(tree(path)))
    return set(_WORD.findall(_COMMENT.sub("", text(path))))


def _given(module: ast.Module) -> Iterator[str]:
    overriding = _overriding(module)
    for node in ast.walk(module):
        match node:
            case ast.FunctionDef(name=given) | ast.AsyncFunctionDef(name=given):
                if node not in overriding:
                    yield given
            case ast.ClassDef(name=given) | ast.arg(arg=given) | ast.alias(asname=str(given)):
                yield given
            case ast.Name(id=given, ctx=ast.Store()) | ast.Attribute(attr=given, ctx=ast.Store()):
                yield given
            case ast.ExceptHandler(name=str(given)) | ast.MatchAs(name=str(given)):
                yield given


def _overriding(module: ast.Module) -> set[ast.AST]:
    """Return the methods of classes that extend another package's class: it may have named them."""
    foreign = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(module)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if _origin(node, alias) not in _OURS_OR_STANDARD
    }
    return {
        method
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef) and foreign & set(map(_root, node.bases))
        for method in node.body
        if isinstance(method, Function)
    }


def _origin(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    origin = alias.name if isinstance(node, ast.Import) else str(node.module)
    return origin.partition(".")[0]


def _root(base: ast.expr) -> str:
    return ast.unparse(base).partition(".")[0].partition("[")[0]
