"""The files of the house, for the tests of its rules."""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PYTHON = sorted(
    path for folder in ("gateway", "workers", "tests") for path in (ROOT / folder).rglob("*.py")
)
SCRIPTS = sorted((ROOT / "lua").glob("*.lua"))
INCLUDES = sorted((ROOT / "lua" / "include").glob("*.lua"))
READMES = sorted(path for path in ROOT.rglob("README.md") if ".venv" not in path.parts)


def name(path: Path) -> str:
    """Return a path as messages show it."""
    return str(path.relative_to(ROOT))


def lines(path: Path) -> list[str]:
    """Return the lines of a file."""
    return path.read_text(encoding="utf-8").splitlines()
