"""A walk on the model and on a store: ``python -m tests.model.walk --steps 1000000``.

Steps come in sequences, each of an org of its own with a seed of its own; every reply is compared,
and all that the store holds at every ``--every`` steps and at the end. A failure names the seed of
its sequence: ``--seed N --steps 200 --every 1`` plays that one alone, and checks after each step.
It resumes nothing and needs nothing: real servers are started from their wheels.
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.model.steps import Walk
from tests.model.stores import FakeStore, ServerStore, Store
from tests.model.twin import load
from tests.servers import SCRIPT_SERVERS, Servers

SEQUENCE_STEPS = 200
# Below Redis 7 scripts have no line of flags.
_PLAIN = "redis-6.2"
_SEQUENCES_PER_TASK = 5


class Task(NamedTuple):
    """A few sequences for one process; no url is fakeredis."""

    url: str
    is_flagged: bool
    seeds: tuple[int, ...]
    steps: int
    every: int


def play(store: Store, seed: int, steps: int, every: int) -> None:
    """Play one sequence; a failure says its seed."""
    walk = Walk(store, Random(seed), every)
    try:
        for number in range(1, steps + 1):
            walk.step()
            if number % every == 0:
                walk.twin.check()
        walk.twin.check()
    except Exception as error:
        error.add_note(f"It is seed {seed}; play it with --seed {seed} --steps {steps} --every 1.")
        raise


def work(task: Task) -> int:
    """Play the sequences of a task, and return their steps."""
    store = _open(task)
    for seed in task.seeds:
        play(store, seed, task.steps, task.every)
    store.close()
    return task.steps * len(task.seeds)


def _open(task: Task) -> Store:
    # Two tasks at once are of seeds that differ, and so are their databases.
    database = task.seeds[0] // len(task.seeds) % 16
    store = ServerStore(task.url, database, task.is_flagged) if task.url else FakeStore()
    load(store)
    return store


def run(options: argparse.Namespace, url: str) -> None:
    """Play all sequences in several processes, and print how it goes."""
    steps = min(SEQUENCE_STEPS, options.steps)
    seeds = range(options.seed, options.seed + -(-options.steps // steps))
    tasks = [
        Task(
            url,
            options.store != _PLAIN,
            tuple(seeds[at : at + _SEQUENCES_PER_TASK]),
            steps,
            options.every,
        )
        for at in range(0, len(seeds), _SEQUENCES_PER_TASK)
    ]
    started_s, played = time.monotonic(), 0
    with ProcessPoolExecutor(options.processes) as pool:
        for count in pool.map(work, tasks):
            played += count
            per_s = played / (time.monotonic() - started_s)
            sys.stdout.write(f"\r{played} steps on {options.store}, {per_s:.0f} a second ")
            sys.stdout.flush()
    sys.stdout.write(f"in {time.monotonic() - started_s:.0f} s: no difference.\n")


def main(words: list[str]) -> None:
    """Read the command line and walk."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.walk", description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--store", choices=("fakeredis", *SCRIPT_SERVERS), default="fakeredis")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(words)
    if options.store == "fakeredis":
        run(options, "")
        return
    with tempfile.TemporaryDirectory(prefix="bg-walk-") as folder:
        servers = Servers(Path(folder))
        try:
            run(options, servers.redis(options.store).url)
        finally:
            servers.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
