"""Alarms ring once, for what is expected last, however often that was moved."""

import asyncio
import time

from gateway.proxy.alarm import Alarm
from tests.until import until


async def test_shorter_time_than_before_counts() -> None:
    """What is expected sooner than the timer was set for is not waited for until then."""
    rung: list[float] = []
    alarm = Alarm(asyncio.get_running_loop(), lambda: rung.append(time.monotonic()))

    alarm.expect(60)
    alarm.expect(0.01)
    await until(lambda: bool(rung), "the alarm to ring")

    alarm.expect(0.01)
    await until(lambda: len(rung) == 2, "the alarm to ring again")


async def test_longer_time_than_before_counts() -> None:
    """The timer that was set for less rings for nobody."""
    rung: list[float] = []
    alarm = Alarm(asyncio.get_running_loop(), lambda: rung.append(time.monotonic()))
    began_s = time.monotonic()

    alarm.expect(0.01)
    alarm.expect(0.1)
    await until(lambda: bool(rung), "the alarm to ring")

    assert rung[0] - began_s > 0.09


async def test_alarm_at_rest_does_not_ring() -> None:
    """Nothing is expected until something is again, nor after the end."""
    rung, others = list[int](), list[int]()
    alarm = Alarm(asyncio.get_running_loop(), lambda: rung.append(1))
    closed = Alarm(asyncio.get_running_loop(), lambda: rung.append(2))
    other = Alarm(asyncio.get_running_loop(), lambda: others.append(1))

    alarm.expect(0.01)
    alarm.rest()
    closed.expect(0.01)
    closed.close()
    other.expect(0.05)
    await until(lambda: bool(others), "another alarm to ring")

    assert rung == []
