"""The append-only file of a server: its growing parts, and what a power cut leaves of them."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from bench.page_cache import written_length
from gateway.cli.embedded_redis import EmbeddedRedis

_MANIFEST = Path("appendonlydir", "appendonly.aof.manifest")
# Before Redis 7 it is one file.
_SINGLE = "appendonly.aof"
# A server may be stopped between a write and its fsync, before it has answered; thrice in a row
# it is not.
_LOOKS = 3


def growing_files(folder: Path) -> list[Path]:
    """Return the parts that are appended to, the oldest first; the base is written once."""
    manifest = folder / _MANIFEST
    if not manifest.exists():
        return [folder / _SINGLE]
    lines = manifest.read_text(encoding="utf-8").splitlines()
    # "file NAME seq NUMBER type i"
    parts = [line.split() for line in lines]
    return [manifest.parent / words[1] for words in parts if words[5] == "i"]


def unwritten(folder: Path) -> int:
    """Return how many bytes a power cut would take now."""
    return sum(path.stat().st_size - kept for path, kept in _kept(folder).items())


def cut_power(server: EmbeddedRedis) -> int:
    """Kill a server as a power cut does: only what is on the disk stays; return what went.

    It leaves the least that a disk may have: up to a page less than it has, and a torn command at
    the end.
    """
    for _ in range(_LOOKS):
        os.kill(server.pid, signal.SIGCONT)
        os.kill(server.pid, signal.SIGSTOP)
        _wait_stopped(server.pid)
        kept = _kept(server.folder)
        lost = sum(path.stat().st_size - length for path, length in kept.items())
        if not lost:
            break
    # Not by `kill` alone, which lets a stopped server go on for a moment.
    os.kill(server.pid, signal.SIGKILL)
    server.kill()
    for path, length in kept.items():
        os.truncate(path, length)
    return lost


def _kept(folder: Path) -> Mapping[Path, int]:
    """Return how much of each part is on the disk; of what follows a gap nothing."""
    kept = dict[Path, int]()
    has_gap = False
    for path in growing_files(folder):
        kept[path] = 0 if has_gap else written_length(path)
        has_gap = has_gap or kept[path] < path.stat().st_size
    return kept


def _wait_stopped(pid: int) -> None:
    """Return when no thread of a process runs any more, in the kernel either."""
    tasks = Path(f"/proc/{pid}/task")
    while any(_state(task) != "T" for task in tasks.iterdir()):
        os.sched_yield()


def _state(task: Path) -> str:
    # The name in parentheses may hold blanks.
    return (task / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
