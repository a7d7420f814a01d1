"""Losses: what a store may forget: one hold, all since an older file was written, or everything."""

from copy import deepcopy
from typing import NamedTuple

from tests.model.invariants import Invariants
from tests.model.org import Hold, Org
from tests.model.twin import Twin


class File(NamedTuple):
    """What a store can be started from again, and the sums over it."""

    org: Org
    invariants: Invariants


def written(org: Org, invariants: Invariants) -> File:
    """Return the file of an org as it is now."""
    return File(*deepcopy((org, invariants)))


def rebuilt(org: Org) -> File:
    """Return the file of an org of which only what operators wrote is left."""
    bare = Org(org.now_ms)
    bare.limits, bare.keys = org.limits, org.keys
    return File(bare, Invariants(bare))


def restart(twin: Twin, invariants: Invariants, file: File) -> None:
    """Start the store from a file; a later start may be from the same one."""
    older = written(*file)
    twin.org.restore(older.org)
    invariants.restore(older.invariants)
    twin.rewrite()


def forget(twin: Twin, invariants: Invariants, id: str, older: Hold | None) -> None:
    """Take away what a hold has left; or leave the less that it was at first."""
    org = twin.org
    hold = org.holds.pop(id)
    kept = ",".join(window for window in hold.windows.split(",") if window in org.spend)
    if kept:
        org.hold_money(kept, hold.agent, (older.amount if older else 0) - hold.amount)
    if older:
        org.holds[id] = older
    else:
        org.count_open(hold.agent, -1)
        org.end_claim(hold.idem, id, hold.body, "released", 0)
        invariants.forgot(id)
    twin.rewrite()
