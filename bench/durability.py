"""What each profile of Redis forgets when its process dies, and when its machine does.

``python -m bench.durability [ROUNDS] [SEED]`` starts a server of its own for each round, lets it
die at a random moment under load and prints one table. Its files are in ``TMPDIR``, which must be
on a disk whose kernel tells what is written (``bench/page_cache.py``).
"""

import asyncio
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.org import NotBooked
from bench.outage import Death, Outage, outage
from bench.page_cache import can_tell
from bench.settles import Load
from gateway.cli.embedded_redis import REDIS_OPTIONS, EmbeddedRedis, redis_binary

_ROUNDS, _SEED = 10, 1
_PROFILES = {"standard": "everysec", "strict": "always"}
_DEATHS: tuple[Death, ...] = ("process", "machine")
# Longer than the second after which what was written first is on the disk.
_SECONDS = (1.5, 3.5)


class Row(NamedTuple):
    """All rounds of one profile and one way to die."""

    profile: str
    dies: Death
    rounds: int
    acknowledged: int
    lost: int
    lost_at_most: int
    oldest_lost_ms: float
    settles_per_s: float


def summed(profile: str, death: Death, outages: Sequence[Outage]) -> Row:
    """Return the row of some rounds.

    Raises:
        NotBooked: counters and journal of one of them do not agree.
    """
    for found in outages:
        if not found.books.are_whole:
            raise NotBooked(f"After an end of the {death} Redis says {found.books}.")
    acknowledged = sum(len(found.acknowledged) for found in outages)
    return Row(
        profile,
        death,
        len(outages),
        acknowledged,
        sum(len(found.lost) for found in outages),
        max(len(found.lost) for found in outages),
        max(found.oldest_lost_ms for found in outages),
        acknowledged / sum(found.seconds for found in outages),
    )


def table(rows: Sequence[Row]) -> str:
    """Return the rows in Markdown."""
    lines = [
        "| profile | dies | rounds | acknowledged | lost | most in a round | oldest lost ms "
        "| settles/s |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| `{row.profile}` | {row.dies} | {row.rounds} | {row.acknowledged:,} | {row.lost:,} "
        f"| {row.lost_at_most:,} | {row.oldest_lost_ms:,.0f} | {row.settles_per_s:,.0f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def measure(folder: Path, rounds: int, seed: int) -> list[Row]:
    """Return one row for each profile and way to die."""
    chance = random.Random(seed)
    return [
        summed(
            profile,
            death,
            [
                _one(folder / f"{profile}-{death}-{number}", appendfsync, death, chance)
                for number in range(rounds)
            ],
        )
        for profile, appendfsync in _PROFILES.items()
        for death in _DEATHS
    ]


def _one(folder: Path, appendfsync: str, death: Death, chance: random.Random) -> Outage:
    async def until_due(_: Load) -> None:
        await asyncio.sleep(chance.uniform(*_SECONDS))

    server = EmbeddedRedis(redis_binary(), folder, {**REDIS_OPTIONS, "appendfsync": appendfsync})
    server.start()
    try:
        return asyncio.run(outage(server, death, until_due))
    finally:
        server.stop()


def main(rounds: int, seed: int) -> None:
    """Measure, and print the table with what it was measured on."""
    with tempfile.TemporaryDirectory(prefix="bg-") as name:
        folder = Path(name)
        if not can_tell(folder):
            sys.exit(f"The kernel does not tell what is on the disk below {folder}; set TMPDIR.")
        rows = measure(folder, rounds, seed)
    said = subprocess.run(
        [redis_binary(), "--version"], capture_output=True, check=True, encoding="utf-8"
    )
    version = " ".join(said.stdout.split()[:3])
    sys.stdout.write(f"{version}, seed {seed}:\n\n{table(rows)}")


if __name__ == "__main__":
    _given = [int(word) for word in sys.argv[1:3]]
    main(*_given, *(_ROUNDS, _SEED)[len(_given) :])
