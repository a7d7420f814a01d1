"""Trials: the tests of one guard, run in a tree, and what they say of it."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Literal, NamedTuple

from tests.mutants.guard import Guard
from tests.mutants.tree import Tree

TIMEOUT_S = 150.0
# No seed and no order of the day: a trial says the same each time. Each outcome on one line.
_PYTEST = (
    *("-p", "no:randomly", "-p", "no:cacheprovider", "-o", "addopts=", "--strict-markers"),
    *("-q", "--tb=line", "-rfEp", "-W", "ignore::pytest.PytestAssertRewriteWarning"),
)
_OUTCOME = re.compile(r"^(PASSED|FAILED|ERROR) (tests/\S+?\.py::.+?)(?: - .*)?$", re.MULTILINE)

Word = Literal["killed", "survived", "broken"]


class Run(NamedTuple):
    """What one pytest said. ``code`` is None where it did not end in time."""

    code: int | None
    passed: frozenset[str]
    failed: frozenset[str]
    output: str


class Verdict(NamedTuple):
    """What became of a mutant: ``why`` says it where it was not killed."""

    guard: Guard
    word: Word
    why: str
    seconds: float


class Bench:
    """A tree and the process that runs tests in it, by the source of that tree."""

    def __init__(self, tree: Tree, forks: "subprocess.Popen[str]") -> None:
        self.tree = tree
        self._forks = forks

    def run(self, tests: Sequence[str], *options: str, timeout_s: float = TIMEOUT_S) -> Run:
        """Run some tests."""
        output = self.tree.folder / "output.txt"
        output.unlink(missing_ok=True)
        asked = [str(output), *_PYTEST, *options, *tests]
        child = int(self._ask(f"{json.dumps(asked)}\n"))
        timer = threading.Timer(timeout_s, _end, (child,))
        timer.start()
        code = int(self._ask(""))
        timer.cancel()
        text = output.read_text(encoding="utf-8", errors="replace")
        said = _OUTCOME.findall(text)
        passed = frozenset(test for word, test in said if word == "PASSED")
        failed = frozenset(test for word, test in said if word == "FAILED")
        return Run(code if code >= 0 else None, passed, failed, text)

    def attempt(self, guard: Guard) -> Verdict:
        """Remove a guard, run its tests, and put it back."""
        began_s = time.monotonic()
        with self.tree.without(guard):
            run = self.run(guard.tests)
        word, why = judged(guard, run)
        return Verdict(guard, word, why, time.monotonic() - began_s)

    def _ask(self, line: str) -> str:
        assert self._forks.stdin is not None
        assert self._forks.stdout is not None
        self._forks.stdin.write(line)
        self._forks.stdin.flush()
        return self._forks.stdout.readline()


@contextmanager
def started(tree: Tree) -> Iterator[Bench]:
    """Start a bench in a tree, for as long as this block runs."""
    with subprocess.Popen(
        [sys.executable, "-P", str(tree.folder / "tests" / "mutants" / "forks.py")],
        cwd=tree.folder,
        env=tree.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as forks:
        yield Bench(tree, forks)


def judged(guard: Guard, run: Run) -> tuple[Word, str]:
    """Return what a run says of a mutant. Only failures of just its tests kill it."""
    if run.code is None:
        return "broken", f"Its tests did not end in time:\n{_tail(run)}"
    silent = [test for test in guard.red if test in run.passed]
    if silent:
        return "survived", f"Green without it: {', '.join(silent)}."
    if run.code != 1 or not set(guard.red) <= run.failed:
        return "broken", f"Its tests did not run (pytest ended with {run.code}):\n{_tail(run)}"
    if not set(guard.green) <= run.passed:
        return "broken", f"The mutant does not run at all:\n{_tail(run)}"
    return "killed", ""


def _end(child: int) -> None:
    # With the servers that it has started: it leads a group of its own.
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)


def _tail(run: Run) -> str:
    return run.output[-1200:]
