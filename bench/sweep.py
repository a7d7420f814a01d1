"""The sweep: the same peers under one caller and under many, with JSON and with streams.

python -m bench.sweep         # about ten minutes; a table, then one line of JSON
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import report
from bench.answers import EXCHANGES
from bench.processes import cores
from bench.small import FAULTS, WRONG
from bench.targets import lead
from bench.turn import PEERS, Request, Turn, fixed_upstream, middle, play

_AGENTS = 10
_WARMUP = 500


class Sweep(NamedTuple):
    """Which loads are put on the peers."""

    callers: tuple[int, ...] = (1, 8, 64, 256)
    kinds: tuple[str, ...] = tuple(EXCHANGES)
    rounds: int = 3
    seconds: float = 8.0
    peers: tuple[str, ...] = tuple(PEERS)


def run(sweep: Sweep) -> dict[str, Any]:
    """Measure every load and return the report.

    Raises:
        WrongAnswer, NotBooked, ProcessFailed: nothing that was measured counts.
    """
    placed, turns = cores(), list[Turn]()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with fixed_upstream(placed.rest, folder / "upstream") as upstream:
            for peer, request in _plan(sweep):
                turn = play(peer, request, upstream, placed, folder)
                what = f"{turn.kind} {turn.callers} callers: {peer}"
                report.progress(f"{what} {turn.requests_per_s:,.0f} requests/s")
                turns.append(turn)
    medians = [middle(group) for group in _by_load(turns)]
    return {
        "machine": report.machine(),
        "sweep": sweep._asdict(),
        "turns": [turn._asdict() for turn in medians],
        "rounds": [turn._asdict() for turn in turns],
        "leads": list(_leads(_by_load(turns))),
    }


def _plan(sweep: Sweep) -> Iterator[tuple[str, Request]]:
    for kind, callers in itertools.product(sweep.kinds, sweep.callers):
        request = Request(kind, callers, sweep.seconds, _AGENTS, _WARMUP)
        for _ in range(sweep.rounds):
            for peer in sweep.peers:
                yield peer, request


def _by_load(turns: Sequence[Turn]) -> list[list[Turn]]:
    groups: dict[tuple[str, int, str], list[Turn]] = {}
    for turn in turns:
        groups.setdefault((turn.kind, turn.callers, turn.peer), []).append(turn)
    return list(groups.values())


def _leads(groups: Sequence[Sequence[Turn]]) -> Iterator[dict[str, Any]]:
    by_load = {(turns[0].kind, turns[0].callers, turns[0].peer): turns for turns in groups}
    for (kind, callers, peer), naive in by_load.items():
        gateway = by_load.get((kind, callers, "gateway"))
        if peer == "naive" and gateway is not None:
            yield {"kind": kind, "callers": callers, **lead(gateway, naive)._asdict()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description=__doc__)
    default = Sweep()
    parser.add_argument("--callers", type=int, nargs="+", default=default.callers)
    parser.add_argument("--kinds", nargs="+", choices=default.kinds, default=default.kinds)
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--seconds", type=float, default=default.seconds)
    parser.add_argument("--peers", nargs="+", choices=default.peers, default=default.peers)
    return parser


def main(arguments: Sequence[str]) -> int:
    """Measure and report; return 0, or 1 where something was wrong."""
    options = vars(_parser().parse_args(arguments))
    lists = {name: tuple(options[name]) for name in ("callers", "kinds", "peers")}
    try:
        document = run(Sweep(**{**options, **lists}))
    except FAULTS as error:
        report.progress(str(error))
        return WRONG
    command = f"python -m bench.sweep {' '.join(arguments)}".strip()
    report.write({"command": command, **document})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
