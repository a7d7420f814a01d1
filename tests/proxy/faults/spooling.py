"""A process that spools a settlement and lives on: `python -m tests.proxy.faults.spooling ...`."""

import sys
from pathlib import Path

from gateway.budgets.changes import Settlement
from gateway.proxy.spool import Spool


def main(folder: str, reservation_id: str, windows: str, cost_microcents: str) -> None:
    """Write the end of a reservation of acme's writer to disk, say so, and wait for the worst."""
    spool = Spool(Path(folder))
    spool.prepare()
    cost = int(cost_microcents)
    spool.append([Settlement("acme", "writer", reservation_id, windows, cost, b"{}")])
    sys.stdout.write("spooled\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
