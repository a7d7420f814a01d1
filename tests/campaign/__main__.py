"""The command of the campaign: exit code 0 where the books are one story, 1 and what is wrong."""

import argparse
import asyncio
import sys

from tests.campaign.play import Plan, Played, play


def _shown(played: Played) -> str:
    plan, seconds, struck, books = played
    lines = [
        "| seed | faults | calls | answered | executed | settled | expired | seconds | wrong |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        f"| {plan.seed} | {plan.faults} | {books.calls} | {books.answered} | {books.executed} "
        f"| {books.settled} | {books.expired} | {seconds:.0f} | {len(books.wrong)} |",
        "",
        ", ".join(f"{name} {count}" for name, count in sorted(struck.items())),
        *books.wrong[:20],
    ]
    return "\n".join(lines)


def main() -> int:
    """Play a campaign and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--callers", type=int, default=16)
    asked = parser.parse_args()
    plan = Plan(asked.seed, asked.faults, asked.callers)
    played = asyncio.run(play(plan, lambda line: sys.stderr.write(f"{line}\n")))
    sys.stdout.write(f"{_shown(played)}\n")
    return 1 if played.books.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
