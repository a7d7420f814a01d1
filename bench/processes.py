"""The processes of a run: pinned to their core, timed by the kernel, ended with the run."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
_START_S = 30.0
_STOP_S = 10.0
_POLL_S = 0.01
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class ProcessFailed(Exception):
    """A process of the run did not start or has ended; the end of its output says why."""


class Cores(NamedTuple):
    """One core for what is measured and all others for the rest; the same where there is one."""

    measured: set[int]
    rest: set[int]


def cores() -> Cores:
    """Return the first core that this process may use, and the others."""
    first, *others = sorted(os.sched_getaffinity(0))
    return Cores({first}, set(others) or {first})


@contextmanager
def pinned(cpus: set[int]) -> Iterator[None]:
    """Let every process that is started inside run on these cores only."""
    # Children inherit the cores of their parent, threads that they start later too.
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Command(NamedTuple):
    """What to start; ``environment`` comes on top of ours, without our own GATEWAY_* names."""

    arguments: Sequence[str]
    environment: Mapping[str, str]


@contextmanager
def running(command: Command, port: int, folder: Path) -> Iterator[int]:
    """Run a Python process that listens on a port; yield its id as soon as it accepts.

    It runs in ``folder``, so that settings of the folder where the bench was called do not count.

    Raises:
        ProcessFailed: it ended instead, or did not listen in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command.arguments],
            cwd=folder,
            env={**own, "PYTHONPATH": str(ROOT), **command.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _wait_listening(process, port, log)
        yield process.pid
        if process.poll() is not None:
            raise ProcessFailed(_said(process, log))
    finally:
        _stop(process)


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used, in user and kernel mode, all threads."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    # The name in parentheses may hold blanks; utime and stime are fields 14 and 15.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def free_port() -> int:
    """Return a port of loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_listening(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until_s = time.monotonic() + _START_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > until_s:
            raise ProcessFailed(_said(process, log))
        time.sleep(_POLL_S)


def _said(process: "subprocess.Popen[bytes]", log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    arguments = " ".join(map(str, process.args[1:])) if isinstance(process.args, list) else ""
    ended = f"ended with {process.poll()}" if process.poll() is not None else "does not listen"
    return f"python {arguments} {ended}: {' '.join(lines[-5:])}"


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
