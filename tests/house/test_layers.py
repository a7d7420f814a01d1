"""Every room imports only what stands below it, and the domain has no clock and no I/O."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.sources import PYTHON, ROOT, name

DOMAIN = [path for path in PYTHON if ROOT / "gateway" / "domain" in path.parents]
CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "monotonic"}


def test_import_contracts_are_kept() -> None:
    """The contracts of pyproject.toml hold: floors, planes, jobs."""
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("path", DOMAIN, ids=name)
def test_domain_imports_the_standard_library_only(path: Path) -> None:
    """The rules of money depend on nothing that can change under them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [str(node.module)]
        for module in modules:
            allowed = module.startswith("gateway.domain.")
            assert allowed or module.partition(".")[0] in sys.stdlib_module_names, module


@pytest.mark.parametrize("path", DOMAIN, ids=name)
def test_domain_asks_no_clock(path: Path) -> None:
    """Time is an argument: what cannot be set cannot be tested."""
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }

    assert calls & CLOCKS == set()
