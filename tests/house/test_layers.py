"""Every room imports only what stands below it, and the domain has no clock and no I/O."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.sources import PYTHON, ROOT, name, tree

DOMAIN = [path for path in PYTHON if ROOT / "gateway" / "domain" in path.parents]
CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "monotonic"}
# What gives a value its form, and knows nothing of what it says.
FORMS = {"msgspec"}
# What the data plane starts without: seconds of imports, and ways to a database.
NOT_SERVED = ("asyncpg", "arq", "stripe", "apprise", "workers")
NOT_SERVED_ROOMS = ("gateway.registry", "gateway.ledger", "gateway.control")
_SERVE = "import sys; from gateway.cli.dispatch import load; load('serve'); print(*sys.modules)"


def test_import_contracts_are_kept() -> None:
    """The contracts of pyproject.toml hold: floors, planes, jobs."""
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, f"Move the code to its floor:\n{result.stdout}"


@pytest.mark.parametrize("path", DOMAIN, ids=name)
def test_domain_imports_no_rule_from_outside(path: Path) -> None:
    """The rules of money depend on nothing that can change under them."""
    for node in ast.walk(tree(path)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [str(node.module)]
        for module in modules:
            allowed = module.startswith("gateway.domain.")
            assert allowed or module.partition(".")[0] in sys.stdlib_module_names | FORMS, (
                f"{module} stands above the domain: hand in what it gives as an argument."
            )


@pytest.mark.parametrize("path", DOMAIN, ids=name)
def test_domain_asks_no_clock(path: Path) -> None:
    """Time is an argument: what cannot be set cannot be tested."""
    calls = {
        node.func.attr
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }

    assert calls & CLOCKS == set(), "Take the instant as an argument."


def test_serve_loads_only_the_data_plane() -> None:
    """The process on the way of every call loads no Postgres, no jobs, no Stripe, no Apprise.

    The import linter cannot see through the dispatch table, which loads a module by its name.
    """
    result = subprocess.run(
        [sys.executable, "-c", _SERVE], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
    rooms = {".".join(module.split(".")[:2]) for module in result.stdout.split()}
    found = sorted(rooms & {*NOT_SERVED, *NOT_SERVED_ROOMS})
    assert not found, f"serve loads {found}: give what it needs a module of its own, further down."
