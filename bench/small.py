"""The small bench: the gateway next to bare uvicorn and a naive gateway, and its scripts alone.

    python -m bench.small            # about two minutes; tables, then one line of JSON

Rounds are interleaved and every turn starts from nothing, so that a machine that grows slower does
so for all; the figures are medians of the rounds, and the leads of the rounds' own leads.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import report
from bench.load import WrongAnswer
from bench.org import NotBooked
from bench.processes import Cores, ProcessFailed, cores, pinned
from bench.server_time import ScriptRefused, ServerTime, measure
from bench.targets import lead, script_targets, turn_targets
from bench.turn import PEERS, Request, Turn, fixed_upstream, fresh_redis, middle, play
from gateway.errors import GatewayError

FAULTS = (WrongAnswer, NotBooked, ProcessFailed, ScriptRefused, GatewayError)
WRONG, MISSED = 1, 3
_AGENTS = 10
_COMPARED = ("gateway", "naive")


class Size(NamedTuple):
    """How much is measured."""

    rounds: int = 6
    seconds: float = 3.0
    callers: int = 64
    warmup: int = 1000
    script_agents: tuple[int, ...] = (10, 10_000)
    script_rounds: int = 160
    script_calls: int = 320


def run(size: Size, peers: Sequence[str]) -> dict[str, Any]:
    """Measure everything and return the report.

    Raises:
        WrongAnswer, NotBooked, ProcessFailed, ScriptRefused: nothing that was measured counts.
    """
    placed = cores()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        turns = _turns(size, peers, placed, folder)
        scripts = [_script(size, agents, placed, folder) for agents in size.script_agents]
    medians = {peer: middle([turn for turn in turns if turn.peer == peer]) for peer in peers}
    targets, leads = script_targets(scripts), None
    if "gateway" in medians and "naive" in medians:
        leads = lead(*([turn for turn in turns if turn.peer == peer] for peer in _COMPARED))
        targets = turn_targets(leads, medians["gateway"].scripts_per_request) + targets
    return {
        "machine": report.machine(),
        "size": size._asdict(),
        "turns": [turn._asdict() for turn in medians.values()],
        "rounds": [turn._asdict() for turn in turns],
        "scripts": [script._asdict() for script in scripts],
        "lead": leads._asdict() if leads else None,
        "targets": [target._asdict() for target in targets],
    }


def _turns(size: Size, peers: Sequence[str], placed: Cores, folder: Path) -> list[Turn]:
    request = Request("json", size.callers, size.seconds, _AGENTS, size.warmup)
    turns = []
    with fixed_upstream(placed.rest, folder / "upstream") as upstream:
        for number in range(size.rounds):
            for peer in peers:
                turn = play(peer, request, upstream, placed, folder)
                report.progress(f"round {number + 1}: {peer} {turn.requests_per_s:,.0f} requests/s")
                turns.append(turn)
    return turns


def _script(size: Size, agents: int, placed: Cores, folder: Path) -> ServerTime:
    # Redis alone on a core, and whoever asks it on the other one.
    with fresh_redis(placed.rest, folder / f"scripts-{agents}") as url, pinned(placed.measured):
        found = asyncio.run(measure(url, agents, size.script_rounds, size.script_calls))
    report.progress(f"scripts with {agents} agents: {found.reserve_us} + {found.settle_us} µs")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.small", description=__doc__)
    default = Size()
    for name in ("rounds", "callers", "warmup", "script-rounds", "script-calls"):
        value = getattr(default, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seconds", type=float, default=default.seconds)
    parser.add_argument("--script-agents", type=int, nargs="*", default=default.script_agents)
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--check", action="store_true", help="Exit 3 where a target is missed.")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Measure and report; return 0, 1 where something was wrong, 3 where a target was missed."""
    options = vars(_parser().parse_args(arguments))
    check, peers = options.pop("check"), options.pop("peers")
    size = Size(**{**options, "script_agents": tuple(options["script_agents"])})
    try:
        document = run(size, peers)
    except FAULTS as error:
        report.progress(str(error))
        return WRONG
    report.write({"command": f"python -m bench.small {' '.join(arguments)}".strip(), **document})
    missed = any(not target["met"] for target in document["targets"])
    return MISSED if check and missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
