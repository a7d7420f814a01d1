"""The verbs of the back office: expire, credit, correct and repair."""

from collections.abc import Sequence
from typing import Literal, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.budgets import replies
from gateway.budgets.changes import Correction, Credit, Repair
from gateway.budgets.keys import EXPIRY, JOURNAL, RATE, org_key, spend_key, spend_keys
from gateway.budgets.proposals import DEFAULT_ZONE, packed_window, window_bounds
from gateway.budgets.records import split_token
from gateway.budgets.replies import Reply
from gateway.budgets.verbs import Budgets
from gateway.domain.reservation_id import reserved_ms
from gateway.domain.window import Window, window_at
from gateway.errors import StoreError

CreditWord = Literal["OK", "DONE", "GONE", "COLD"]

# One expire call stays below 2 ms of server time (100 ids took 1.1 ms, budgets-on-redis).
EXPIRE_IDS_MAX = 100


class Bookkeeping(Budgets):
    """Budgets for workers and operators; the data plane has no use for these verbs."""

    async def expire(self, org: str, windows: str, ids: Sequence[str]) -> list[str]:
        """End overdue reservations of one org that share their windows; at most 100 ids.

        ``windows`` is what ``hold_token`` reads from the hold record. Returns one word per id:
        ``expired`` or ``released`` now, ``held`` where the deadline has not passed, the state of
        what had ended before, ``gone``, ``corrupt``, or ``windows`` where the record has others.
        """
        packed, idem_digest = split_token(windows)
        ends = [
            org_key(org, name)
            for id in ids
            for name in (f"done:{id}", f"idem:{idem_digest or '-'}")
        ]
        names = ("limits", "meta", "holds")
        reply = await self.wire.submit(
            self._scripts.expire,
            (
                *(org_key(org, name) for name in names),
                EXPIRY,
                JOURNAL,
                org_key(org, "rate"),
                *spend_keys(org, packed),
                *ends,
            ),
            (org, packed, self.wire.epoch, *ids),
        )
        if _checked(reply) != "EXPIRED" or len(reply) != len(ids) + 3:
            raise replies.unreadable(LookupError(f"{len(reply)} words for {len(ids)} ids"))
        return [replies.text(state) for state in reply[1:-2]]

    async def credit(self, change: Credit) -> CreditWord:
        """Raise or lower what a budget may spend; ``GONE`` where its window is not running.

        Raises:
            StoreError: also where a window must open and the org's ``timezone`` is not one.
        """
        window, zone = await self._running(change)
        reply = await self.wire.submit(
            self._scripts.credit,
            (
                org_key(change.org, "limits"),
                org_key(change.org, "meta"),
                org_key(change.org, f"applied:{change.id}"),
                JOURNAL,
                spend_key(change.org, window),
            ),
            (
                change.id,
                reserved_ms(change.id),
                change.org,
                change.scope,
                change.amount_microcents,
                zone,
                self.wire.epoch,
                packed_window(window),
                window_bounds(window) if window.end_ms else "",
            ),
        )
        return cast(CreditWord, _checked(reply))

    async def _running(self, change: Credit) -> tuple[Window, str]:
        # The bounds that are stored where this window runs, or those that it would open with.
        if change.window == "total":
            return Window("total", "", 0, 0), DEFAULT_ZONE
        names = [f"{change.window}.{part}" for part in ("id", "start", "end")]
        stored = await self.wire.command("HMGET", org_key(change.org, "meta"), *names, "zone")
        look = (org_key(change.org, "meta"), JOURNAL)
        now_ms = int((await self.wire.submit(self._scripts.inspect, look, ()))[-1])
        ended_ms = int(stored[2]) if stored[2] is not None and int(stored[2]) <= now_ms else None
        # One that has ended may open once more under its name, after a move west.
        runs = stored[0] is not None and ended_ms is None
        if runs and replies.text(stored[0]) == change.window_id:
            start_ms, end_ms = int(stored[1]), int(stored[2])
            running = Window(change.window, change.window_id, start_ms, end_ms)
            # Not the zone of the limits: what operators write there is for the next window.
            return running, replies.text(stored[3]) if stored[3] else DEFAULT_ZONE
        zone_name = await self._zone_name(change.org)
        opening = window_at(change.window, now_ms, ZoneInfo(zone_name), ended_ms)
        if opening.id == change.window_id:
            return opening, zone_name
        # No such window runs or can open: bounds that never fit make the script answer GONE.
        return Window(change.window, change.window_id, 0, 0), zone_name

    async def _zone_name(self, org: str) -> str:
        zone = await self.wire.command("HGET", org_key(org, "limits"), "timezone")
        name = replies.text(zone) if zone is not None else DEFAULT_ZONE
        try:
            ZoneInfo(name)
        # A name that is a folder of the zone database, or not a relative path, is no zone either.
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise StoreError(
                f"timezone of {org} is {name!r}; expected a name such as Europe/Berlin."
            ) from error
        return name

    async def correct(self, change: Correction) -> str:
        """Change the billable spend of one ended reservation: ``OK``, or ``DONE`` before."""
        reply = await self.wire.submit(
            self._scripts.correct,
            (
                org_key(change.org, "limits"),
                org_key(change.org, "meta"),
                org_key(change.org, f"applied:{change.id}"),
                JOURNAL,
                *spend_keys(change.org, change.windows),
            ),
            (
                change.id,
                change.reservation_id,
                reserved_ms(change.reservation_id),
                change.org,
                change.agent,
                change.amount_microcents,
                change.windows,
                self.wire.epoch,
                change.detail,
            ),
        )
        return _checked(reply)

    async def repair(self, change: Repair) -> str:
        """Change counters by differences: ``OK``, or ``DONE`` where it was applied before.

        A window that has ended and lost its counters stays without; one that runs gets them back.
        """
        windows = list(dict.fromkeys(window for window, _, _ in change.changes))
        # KEYS count from 1, and these follow meta and applied.
        places = {window: at for at, window in enumerate(windows, 3)}
        reply = await self.wire.submit(
            self._scripts.repair,
            (
                org_key(change.org, "meta"),
                org_key(change.org, f"applied:{change.id}"),
                *(_counters_key(change.org, window) for window in windows),
            ),
            (
                change.id,
                ",".join(windows),
                *(
                    argument
                    for window, field, amount in change.changes
                    for argument in (places[window], field, amount)
                ),
            ),
        )
        return _checked(reply)


def _counters_key(org: str, window: str) -> str:
    return org_key(org, "rate") if window == RATE else spend_keys(org, window)[0]


def _checked(reply: Reply) -> str:
    with replies.reading():
        word = replies.text(reply[0])
        if word == "BADARG":
            raise StoreError(f"A script refused its argument {replies.text(reply[1])}.")
    return word
