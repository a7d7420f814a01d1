"""The wheel holds all that runs, and nothing that only a checkout needs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.house.sources import ROOT

# Where a folder of the checkout lies in the wheel.
PLACES = {"gateway": "gateway", "workers": "workers", "lua": "gateway/lua"}
_LOOK = """
from gateway.budgets.scripts import load_scripts, script_dir
from gateway.ledger.migrations import migrations
from gateway.ledger.sql import statement
assert all(script.flagged.text for script in load_scripts())
assert migrations() and statement("insert_usage_entry")
print(script_dir())
"""


def run(*command: object, cwd: Path, path: str = "") -> str:
    """Return what a command writes; ``path`` is where Python looks first for modules."""
    environ = {**os.environ, "PYTHONPATH": path}
    result = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of this checkout, built without a look at the network."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which the wheel was installed, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    quietly = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")
    run(sys.executable, "-m", "pip", "install", *quietly, "--target", folder, wheel, cwd=folder)
    return folder


@pytest.mark.parametrize(("folder", "place"), PLACES.items())
def test_wheel_holds_all_that_runs(wheel: Path, folder: str, place: str) -> None:
    """Every module, script, statement and migration is in the wheel, and every README beside it."""
    held = set(zipfile.ZipFile(wheel).namelist())
    needed = {
        f"{place}/{path.relative_to(ROOT / folder)}"
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".lua", ".sql", ".md")
    }

    assert needed
    assert needed <= held, f"Let pyproject.toml put {needed - held} into the wheel."


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    """Tests and bench are in no wheel, nor is any other folder of the checkout."""
    folders = {file.partition("/")[0] for file in zipfile.ZipFile(wheel).namelist()}
    own = {folder for folder in folders if not folder.endswith(".dist-info")}

    assert own == {"gateway", "workers"}, f"Keep {own - {'gateway', 'workers'}} out of the wheel."


def test_installed_wheel_finds_its_files(installed: Path, tmp_path: Path) -> None:
    """Away from the checkout the scripts, statements and migrations are read from the wheel."""
    found = run(sys.executable, "-c", _LOOK, cwd=tmp_path, path=str(installed))

    assert Path(found.strip()) == installed / "gateway" / "lua"


def test_installed_wheel_has_its_program(installed: Path, tmp_path: Path) -> None:
    """The program of the wheel runs by its name, and says which release it is."""
    program = installed / "bin" / "budget-gateway"

    assert run(program, "--version", cwd=tmp_path, path=str(installed)).startswith("budget-gateway")
