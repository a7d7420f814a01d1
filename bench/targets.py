"""The targets: what the figures of a run are held against."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from bench.server_time import ServerTime
from bench.turn import Turn

_NAIVE_TIMES_MIN = 12.0
_FLOOR_TIMES_MAX = 1.5
# Reserve and settle; the rest is for a reserve that met a window which had just begun.
_SCRIPTS_PER_REQUEST_MAX = 2.01
# Less than this share of its core, and it was not the gateway that was measured.
_BUSY_MIN = 0.9


class Target(NamedTuple):
    """A bound and what was measured against it."""

    name: str
    bound: str
    measured: float
    met: bool


class Lead(NamedTuple):
    """How many times the naive gateway the gateway is.

    ``per_cpu_second`` is what one core is worth. ``requests_per_s`` is what callers see: the same,
    where the gateway's core was busy all the time; less, where ``others_were_limit``: Redis, the
    load and the upstream had no more to give.
    """

    requests_per_s: float
    per_cpu_second: float
    others_were_limit: bool


def lead(gateway: Sequence[Turn], naive: Sequence[Turn]) -> Lead:
    """Return the lead of the gateway under one load: the median of the rounds' own leads.

    Turns of one round are neighbours: a moment in which the machine is slow is one for both.
    """
    rounds = list(zip(gateway, naive, strict=True))
    return Lead(
        round(median(fast.requests_per_s / slow.requests_per_s for fast, slow in rounds), 2),
        round(median(slow.cpu_us / fast.cpu_us for fast, slow in rounds), 2),
        median(turn.busy for turn in gateway) < _BUSY_MIN,
    )


def turn_targets(found: Lead, scripts_per_request: float) -> list[Target]:
    """Return what is asked of the gateway under load: of its own core, whoever else was the limit.

    On two cores Redis alone may fill the other one, with the same two scripts for both gateways.
    """
    times = found.per_cpu_second
    bound = f">= {_NAIVE_TIMES_MIN:g}"
    return [
        Target(
            "requests per second of one core, times naive", bound, times, times >= _NAIVE_TIMES_MIN
        ),
        _at_most("scripts per request", scripts_per_request, _SCRIPTS_PER_REQUEST_MAX),
    ]


def script_targets(scripts: Sequence[ServerTime]) -> list[Target]:
    """Return what is asked of the scripts."""
    found = []
    for script in scripts:
        where = f"at {script.agents} agents, times the floor"
        found.append(_at_most(f"reserve {where}", script.reserve_ratio, _FLOOR_TIMES_MAX))
        found.append(_at_most(f"settle {where}", script.settle_ratio, _FLOOR_TIMES_MAX))
    return found


def _at_most(name: str, measured: float, most: float) -> Target:
    return Target(name, f"<= {most:g}", measured, measured <= most)
