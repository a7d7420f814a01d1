"""A gateway of the walk: its own view of windows and tokens, and what it does with each answer.

It takes the same turns as ``gateway/budgets/verbs.py``, one call at a time: it proposes the
windows that it believes in, learns from ``WINDOW``, and follows ``WINDOWS``.
"""

from collections.abc import Sequence
from typing import Any, cast
from zoneinfo import ZoneInfo

from gateway.budgets import replies
from gateway.budgets.proposals import DEFAULT_ZONE, Proposals, packed_window, window_bounds
from gateway.budgets.records import split_token, windows_token
from gateway.domain.limits import check_field
from gateway.domain.reservation_id import reserved_ms
from gateway.domain.window import Window, WindowKind, window_at
from tests.model.calls import ORG, Credit, Expire, Extend, Inspect, Release, Reserve, Resume, Settle
from tests.model.twin import Twin

EPOCH = "1"
HOLD_TTL_MS = "60000"


class Gateway:
    """One of several gateways over one store."""

    def __init__(self, twin: Twin, kinds: Sequence[WindowKind], skew_ms: int) -> None:
        self._twin = twin
        self._proposals = Proposals(kinds)
        self._skew_ms = skew_ms
        self._epoch = EPOCH

    def follow(self) -> None:
        """Read the marker of the store: its epoch is that of the last rebuild."""
        self._epoch = self._twin.org.meta.get("epoch", EPOCH)

    def reserve(self, ask: Reserve) -> list[Any]:
        """Reserve with the windows that this gateway proposes; return the last reply."""
        proposal = self._proposals.current(ORG, self._twin.org.now_ms + self._skew_ms)
        ask = ask._replace(epoch=self._epoch)
        for _ in range(3):
            reply = self._twin.call(
                ask._replace(zone=proposal.zone, windows=proposal.packed, proposal=proposal.bounds)
            )
            if reply[0] != b"WINDOW":
                return reply
            learned = self._proposals.learn(ORG, *replies.running(reply))
            if learned is None:
                return reply
            proposal = learned
        return reply

    def settle(self, settle: Settle, token: str) -> list[Any]:
        """Settle with a token, or with the windows that would be proposed now."""
        for _ in range(2):
            windows, idem = split_token(token or self.packed_now())
            reply = self._twin.call(settle._replace(windows=windows, idem_digest=idem))
            if reply[0] != b"WINDOWS":
                return reply
            token = windows_token(*map(replies.text, reply[1:3]))
        raise AssertionError(f"{settle} is never answered but with WINDOWS.")

    def release(self, id: str, agent: str, token: str) -> list[Any]:
        """Release with a token, or with the windows that would be proposed now."""
        for _ in range(2):
            windows, idem = split_token(token or self.packed_now())
            reply = self._twin.call(
                Release(id, reserved_ms(id).decode(), ORG, agent, windows, idem)
            )
            if reply[0] != b"WINDOWS":
                return reply
            token = windows_token(*map(replies.text, reply[1:3]))
        raise AssertionError(f"The release of {id} is never answered but with WINDOWS.")

    def resume(self, resume: Resume, token: str) -> list[Any]:
        """Resume with a token, or with the windows that would be proposed now."""
        windows, idem = split_token(token or self.packed_now())
        return self._twin.call(resume._replace(windows=windows, idem_digest=idem))

    def extend(self, extend: Extend, token: str) -> list[Any]:
        """Extend with a token, or with the windows that would be proposed now."""
        for _ in range(2):
            windows, _ = split_token(token or self.packed_now())
            reply = self._twin.call(extend._replace(windows=windows))
            if reply[0] != b"WINDOWS":
                return reply
            token = replies.text(reply[1])
        raise AssertionError(f"{extend} is never answered but with WINDOWS.")

    def sweep(self, ids: Sequence[str]) -> None:
        """Expire ids in groups of one token, as the sweeper reads them from their records."""
        groups: dict[str, list[str]] = {}
        for id in ids:
            hold = self._twin.org.holds.get(id)
            token = windows_token(hold.windows, hold.idem) if hold else "total"
            groups.setdefault(token, []).append(id)
        for token, group in groups.items():
            windows, idem = split_token(token)
            self._twin.call(Expire(ORG, windows, EPOCH, tuple(group), idem))

    def credit(self, change: Credit, kind: WindowKind, window_id: str) -> list[Any] | None:
        """Credit a window that runs or opens now; None where the zone of the limits is none."""
        if kind == "total":
            return self._twin.call(change._replace(window="total"))
        running, org = self._twin.org.running.get(kind), self._twin.org
        now_ms = int(self._twin.call(Inspect("total"))[-1])
        ended_ms = running.end_ms if running and running.end_ms <= now_ms else None
        if running and ended_ms is None and running.id == window_id:
            zone = org.meta.get("zone", DEFAULT_ZONE)
            return self._credit(change, running, zone)
        if check_field("timezone", org.zone, ()) is not None:
            return None
        opening = window_at(kind, now_ms, ZoneInfo(org.zone), ended_ms)
        is_opening = opening.id == window_id
        window = opening if is_opening else Window(kind, window_id, 0, 0)
        return self._credit(change, window, org.zone)

    def packed_now(self) -> str:
        """Return the windows that this gateway would propose now."""
        return self._proposals.current(ORG, self._twin.org.now_ms + self._skew_ms).packed

    def _credit(self, change: Credit, window: Window, zone: str) -> list[Any]:
        bounds = window_bounds(window) if window.end_ms else ""
        return self._twin.call(
            change._replace(zone=zone, window=packed_window(window), proposal=bounds)
        )


def kinds_of(text: str) -> tuple[WindowKind, ...]:
    """Return the window kinds of a comma list."""
    return cast(tuple[WindowKind, ...], tuple(text.split(",")))
