"""``make mutants``: remove every guard of ``guards.toml``, one at a time, in copies of the tree.

First the tests of all of them must be green as the product is. Then each guard is removed where
its tests run, and all of those must fail, while a test beside them must still pass. A mutant that
survives, or that does not run, is named at the end, and the exit code is 1. Names of guards as
arguments (``python -m tests.mutants settle_is_idempotent``) run those only.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.guard import Guard, guards
from tests.mutants.tree import Tree
from tests.mutants.trial import Bench, Verdict, started

_BASELINE_S = 580.0


def main() -> int:
    """Run the trials and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="guards to remove; all where none is named")
    # One more than there are cores, because some of the tests wait for what does not come.
    parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 1) + 1)
    parser.add_argument("--unchecked", action="store_true", help="leave out the green run")
    options = parser.parse_args()
    chosen = [guard for guard in guards() if not options.names or guard.name in options.names]
    unknown = set(options.names) - {guard.name for guard in chosen}
    if unknown:
        parser.error(f"There is no guard {', '.join(sorted(unknown))}.")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bg-mutants-")))
        benches = [stack.enter_context(started(Tree(folder / "1")))]
        if not options.unchecked and not _is_green(benches[0], chosen, options.jobs):
            return 1
        for number in range(2, options.jobs + 1):
            benches.append(stack.enter_context(started(Tree(folder / str(number)))))
        verdicts = _tried(benches, chosen)
    return _summed(verdicts)


def _is_green(first: Bench, chosen: Sequence[Guard], jobs: int) -> bool:
    tests = list(dict.fromkeys(test for guard in chosen for test in guard.tests))
    _say(f"{len(tests)} tests of {len(chosen)} guards must be green as the product is ...")
    run = first.run(tests, "--numprocesses", str(jobs), timeout_s=_BASELINE_S)
    missing = sorted(set(tests) - run.passed)
    if run.code != 0 or missing:
        _say(f"They are not: {', '.join(missing)}\n{run.output[-4000:]}")
    return run.code == 0 and not missing


def _tried(benches: Sequence[Bench], chosen: Sequence[Guard]) -> list[Verdict]:
    """Try all of them, each on a bench that is free, and say how it goes."""
    free = SimpleQueue[Bench]()
    for each in benches:
        free.put(each)

    def tried(guard: Guard) -> Verdict:
        own = free.get()
        try:
            return own.attempt(guard)
        finally:
            free.put(own)

    verdicts = list[Verdict]()
    with ThreadPoolExecutor(len(benches)) as pool:
        for verdict in pool.map(tried, chosen):
            verdicts.append(verdict)
            place = f"{len(verdicts):3}/{len(chosen)}"
            _say(f"{place} {verdict.word:9} {verdict.seconds:5.1f} s  {verdict.guard.name}")
    return verdicts


def _summed(verdicts: Sequence[Verdict]) -> int:
    width = max(len(verdict.guard.name) for verdict in verdicts)
    _say("")
    for verdict in verdicts:
        _say(f"{verdict.guard.name:{width}}  {verdict.word:9} {verdict.guard.file}")
    alive = [verdict for verdict in verdicts if verdict.word != "killed"]
    for verdict in alive:
        _say(f"\n{verdict.guard.name}: {verdict.word}. {verdict.why}")
    _say(f"\n{len(verdicts) - len(alive)} of {len(verdicts)} mutants turned their tests red.")
    return 1 if alive else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
