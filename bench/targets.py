"""The targets: what the figures of a run are held against."""

from collections.abc import Sequence
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


def lead(gateway: Turn, naive: Turn) -> Lead:
    """Return the lead of the gateway under one load."""
    return Lead(
        round(gateway.requests_per_s / naive.requests_per_s, 2),
        round(naive.cpu_us / gateway.cpu_us, 2),
        gateway.busy < _BUSY_MIN,
    )


def turn_targets(gateway: Turn, naive: Turn) -> list[Target]:
    """Return what is asked of the gateway under load: of its own core, whoever else was the limit.

    On two cores Redis alone may fill the other one, with the same two scripts for both gateways.
    """
    times, scripts = lead(gateway, naive).per_cpu_second, gateway.scripts_per_request
    bound = f">= {_NAIVE_TIMES_MIN:g}"
    return [
        Target(
            "requests per second of one core, times naive", bound, times, times >= _NAIVE_TIMES_MIN
        ),
        _at_most("scripts per request", scripts, _SCRIPTS_PER_REQUEST_MAX),
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
