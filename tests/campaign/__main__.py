"""The command of the campaign: exit code 0 where the books are one story, 1 and what is wrong."""

import argparse
import asyncio
import sys

from tests.campaign.faults import FAULTS
from tests.campaign.play import Plan, play
from tests.campaign.table import put, table
from tests.house.sources import ROOT

_README = ROOT / "README.md"


def main() -> int:
    """Play a campaign and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--only", nargs="*", choices=sorted(FAULTS), default=())
    parser.add_argument("--readme", action="store_true", help="put the table into README.md")
    asked = parser.parse_args()
    plan = Plan(asked.seed, asked.faults, asked.callers, only=asked.only)
    played = asyncio.run(play(plan, lambda line: sys.stderr.write(f"{line}\n")))
    made = table(played)
    sys.stdout.write(f"{made}\n")
    sys.stdout.writelines(f"{wrong}\n" for wrong in played.books.wrong[:20])
    if asked.readme:
        _README.write_text(put(_README.read_text(encoding="utf-8"), made), encoding="utf-8")
    return 1 if played.books.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
