"""Settling: who handed in a settle is told its end once, and the socket of all calls lives on."""

import asyncio
from typing import Any

import pytest

from gateway.budgets.changes import Settlement
from gateway.budgets.settling import Settling
from gateway.budgets.waiter import Waiter, fail
from gateway.domain.reservation import Settled
from gateway.errors import OutcomeUnknown, StoreError

SETTLEMENT = Settlement("acme", "researcher", "01", "total", 5, b"{}")
SETTLED = [b"SETTLED", b"7", b"2", 1, 1]


class _Story:
    """What was sent for a settle, and what was told of it."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Waiter]] = []
        self.told: list[Any] = []
        self.settling = Settling(SETTLEMENT, self._send, self)

    def _send(self, settlement: Settlement, token: str, waiter: Waiter) -> None:
        assert settlement is SETTLEMENT
        self.sent.append((token, waiter))

    def ended(self, settlement: Settlement, end: Settled, seq: int, /) -> None:
        """Note the end."""
        assert settlement is SETTLEMENT
        self.told.append(end)

    def failed(self, settlement: Settlement, fault: StoreError, /) -> None:
        """Note the fault."""
        assert settlement is SETTLEMENT
        self.told.append(fault)


class _Buggy:
    """Somebody who cannot be told anything."""

    def ended(self, _: Settlement, end: Settled, seq: int, /) -> None:
        """Fail."""
        raise LookupError(end)

    def failed(self, _: Settlement, fault: StoreError, /) -> None:
        """Fail."""
        raise LookupError(fault)


def test_settling_tells_its_end() -> None:
    """The reply is told at once, and nothing waits any more."""
    story = _Story()

    story.settling.set_result(SETTLED)

    assert story.told == [Settled("SETTLED", 7, 2)]
    assert story.settling.done()


def test_settling_is_sent_again_with_the_right_windows() -> None:
    """WINDOWS is no end: the same settle goes out in the windows that were answered."""
    story = _Story()

    story.settling.set_result([b"WINDOWS", b"day:2026-11-22,total", b"i1", 1, 1])
    assert story.sent == [("day:2026-11-22,total;i1", story.settling)]
    assert not story.told
    assert not story.settling.done()
    story.settling.set_result(SETTLED)

    assert story.told == [Settled("SETTLED", 7, 2)]


def test_settling_tells_what_it_was_refused_for() -> None:
    """BADARG is a fault of ours, told as an error that names the argument."""
    story = _Story()

    story.settling.set_result([b"BADARG", b"windows", 1, 1])

    [error] = story.told
    assert type(error) is StoreError
    assert str(error) == "settle refused windows."


def test_settling_is_told_one_fault() -> None:
    """What fails once has ended; a later fault or reply reaches nobody."""
    story, fault = _Story(), OutcomeUnknown("late")

    fail(story.settling, fault)
    fail(story.settling, OutcomeUnknown("later"))
    story.settling.set_result(SETTLED)

    assert story.told == [fault]


@pytest.mark.parametrize("reply", [SETTLED, [], 7, [b"SETTLED", b"no number", b"", 1, 1]])
async def test_settling_never_raises(reply: Any) -> None:
    """A bug in what is told, or a reply that no script gives, is reported and breaks nothing."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    for end in (reply, StoreError("away")):
        settling = Settling(SETTLEMENT, lambda *_: None, _Buggy())
        if isinstance(end, StoreError):
            settling.set_exception(end)
        else:
            settling.set_result(end)

    assert len(reported) == 2
