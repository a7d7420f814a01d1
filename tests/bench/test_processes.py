"""Processes of a run: they start where they should, say why they failed, and do not stay."""

import os
import time
from pathlib import Path

import pytest

from bench.processes import Command, ProcessFailed, cores, cpu_s, free_port, pinned, running

SERVER = ("-m", "http.server", "--bind", "127.0.0.1")


def test_process_runs_on_its_core_and_ends_with_the_run(tmp_path: Path) -> None:
    """What is measured has its core to itself, and our own cores are as before."""
    before, port = os.sched_getaffinity(0), free_port()

    with pinned(cores().rest), running(Command((*SERVER, str(port)), {}), port, tmp_path) as pid:
        found = os.sched_getaffinity(pid)

    assert found == cores().rest
    assert os.sched_getaffinity(0) == before
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_process_that_ends_says_why(tmp_path: Path) -> None:
    """A gateway that refuses to start ends the run with its own words."""
    command = Command(("-c", "raise SystemExit('GATEWAY_REDIS_URL is not set.')"), {})

    with (
        pytest.raises(ProcessFailed, match=r"ended with 1: GATEWAY_REDIS_URL is not set."),
        running(command, free_port(), tmp_path),
    ):
        raise AssertionError("It must not be taken for running.")


def test_cpu_time_is_that_of_the_process() -> None:
    """The kernel's count of this process is the one that Python gives."""
    until_s = time.process_time() + 0.1
    while time.process_time() < until_s:
        pass

    assert abs(cpu_s(os.getpid()) - time.process_time()) < 0.05
