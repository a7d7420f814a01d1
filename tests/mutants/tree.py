"""Trees: copies of the checkout, in which a guard can be missing for a while."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.mutants.guard import Guard

ROOT = Path(__file__).parent.parent.parent
# All that the product and its tests are made of.
_PARTS = (
    *("gateway", "workers", "lua", "tests", "bench"),
    *("pyproject.toml", "Makefile", "README.md", "Dockerfile", "CHANGELOG.md"),
)
_DEEP = shutil.ignore_patterns(".hypothesis", ".pytest_cache")


class MutantError(Exception):
    """A guard that cannot be removed: its text is not there, or not once."""


class Tree:
    """A copy of the checkout. One process at a time may use it."""

    def __init__(self, folder: Path, source: Path = ROOT) -> None:
        self.folder = folder
        for part in _PARTS:
            if (source / part).is_dir():
                shutil.copytree(source / part, folder / part, ignore=_DEEP)
            elif (source / part).exists():
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / part, folder / part)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to run this copy, and nothing of the pytest that started it."""
        outer = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST_", "COV_"))
        }
        # Of a mutant no bytecode is kept: it would outlive the mutant.
        return {**outer, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}

    @contextmanager
    def without(self, guard: Guard) -> Iterator[None]:
        """Remove a guard for as long as this block runs.

        Raises:
            MutantError: its text is not in its file exactly once.
        """
        path = self.folder / guard.file
        kept, times = path.read_bytes(), path.stat()
        path.write_text(mutated(kept.decode(), guard), encoding="utf-8")
        try:
            yield
        finally:
            path.write_bytes(kept)
            # As old as it was, so that its bytecode is still good.
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def mutated(text: str, guard: Guard) -> str:
    """Return the text of a file without a guard.

    Raises:
        MutantError: its text is not there exactly once.
    """
    count = text.count(guard.text)
    if count != 1:
        raise MutantError(f"{guard.name}: its text is in {guard.file} {count} times, not once.")
    return text.replace(guard.text, guard.replacement)
