"""Runners: one task serves one call after another, and no call feels it.

U1 calls that follow each other share a task, calls at the same time do not
U2 a call that was cancelled takes its task with it: the next call begins with a new one
U3 an answer that is left incomplete is broken off
U4 a call that has ended keeps nothing alive
U5 the server knows the task while it runs a call, and waits for it when it stops; not after
U6 a call that is cancelled before it has begun is broken off, and the server forgets its task
U7 a few tasks wait for further calls, however many have run at once
"""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.proxy.answer_head import own_answer_head
from gateway.proxy.body import Receive, Send
from gateway.proxy.cycle import KnownCycle
from gateway.proxy.invocation import Invocation, Target, arrival_in
from gateway.proxy.known_heads import KnownHeads
from gateway.proxy.outgoing import Outgoing, outgoing_in
from gateway.proxy.runners import Runners
from tests.proxy.listening import listening
from tests.proxy.wire import request, wire
from tests.until import until

Answer = Callable[[Outgoing], Awaitable[None]]
_CALL = request("/agents/researcher/x", "Content-Length: 0")


class _App:
    """Takes arrivals, as the gateway does, and answers each in one way; notes their tasks."""

    def __init__(self, answer: Answer) -> None:
        self.known_heads = KnownHeads[Target]()
        self.runners = Runners(self.serve)
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.cycles: list[weakref.ref[Any]] = []
        self.running: set[asyncio.Task[Any]] = set()
        self._answer = answer

    async def __call__(self, scope: dict[str, Any], _receive: Receive, send: Send) -> None:
        # The first one with its head, which is learned from it.
        assert arrival_in(scope) is not None
        await _ok(outgoing_in(scope, send))

    async def serve(self, _call: Invocation, receive: Any, outgoing: Outgoing) -> None:
        self.tasks.append(asyncio.current_task())
        cycle = receive.__self__
        self.cycles.append(weakref.ref(cycle))
        self.running = cycle.on_response.__self__.tasks
        await self._answer(outgoing)


class _Cancelling(Runners):
    """Cancels a call before it begins, where it ``is_on``."""

    is_on = False
    cancelled: set[asyncio.Task[Any]]

    def start(self, cycle: KnownCycle, call: Invocation, running: "set[asyncio.Task[Any]]") -> None:
        super().start(cycle, call, running)
        if self.is_on:
            self.cancelled = running
            for task in running:
                task.cancel()


async def _ok(outgoing: Outgoing) -> None:
    await outgoing.whole(own_answer_head(200, []), b"", b"ok")


async def test_calls_that_follow_each_other_share_a_task() -> None:
    """U1: the second one, and the third, begin no task."""
    app = _App(_ok)

    async with listening(app) as port, wire(port) as caller:
        for _ in range(4):
            await caller.send(_CALL)
            await caller.until(b"ok")

    assert len(app.tasks) == 3
    assert len(set(app.tasks)) == 1


async def test_calls_at_the_same_time_have_a_task_each() -> None:
    """U1: neither waits for the other."""
    both = asyncio.Barrier(2)

    async def answer(outgoing: Outgoing) -> None:
        await both.wait()
        await _ok(outgoing)

    app = _App(answer)

    async with listening(app) as port, wire(port) as one, wire(port) as other:
        await one.send(_CALL)
        await one.until(b"ok")
        for caller in (one, other):
            await caller.send(_CALL)
        for caller in (one, other):
            await caller.until(b"ok")

    assert len(set(app.tasks)) == 2


async def test_no_more_tasks_are_kept_than_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """U7: after a crowd the others end with their calls."""
    monkeypatch.setattr("gateway.proxy.runners._IDLE_MAX", 1)
    both = asyncio.Barrier(2)

    async def answer(outgoing: Outgoing) -> None:
        await both.wait()
        await _ok(outgoing)

    app = _App(answer)

    async with listening(app) as port, wire(port) as one, wire(port) as other:
        await one.send(_CALL)
        await one.until(b"ok")
        for caller in (one, other):
            await caller.send(_CALL)
        await until(lambda: [task.done() for task in app.tasks if task].count(True), "one to end")

        assert [task.done() for task in app.tasks if task].count(False) == 1


async def test_cancelled_call_takes_its_task_with_it() -> None:
    """U2: even where it has swallowed the cancellation, as a call does that is answered still."""
    waits = asyncio.Event()

    async def answer(outgoing: Outgoing) -> None:
        try:
            await waits.wait()
        except asyncio.CancelledError:
            waits.set()
        await _ok(outgoing)

    app = _App(answer)

    async with listening(app) as port, wire(port) as caller:
        await caller.send(_CALL)
        await caller.until(b"ok")
        await caller.send(_CALL)
        await until(lambda: app.tasks, "the call to run")
        first = app.tasks[0]
        assert first is not None
        first.cancel()
        await caller.until(b"ok")
        await caller.send(_CALL)
        await caller.until(b"ok")

    assert app.tasks[1] is not first
    assert first.done()


async def test_incomplete_answer_is_broken_off() -> None:
    """U3: what the app has left open, its connection ends."""

    async def answer(outgoing: Outgoing) -> None:
        await outgoing.begin(own_answer_head(200, []), b"")
        await outgoing({"type": "http.response.body", "body": b"a part", "more_body": True})

    app = _App(answer)

    async with listening(app) as port, wire(port) as caller:
        await caller.send(_CALL)
        await caller.until(b"ok")
        await caller.send(_CALL)
        rest = await caller.rest()

    assert rest.endswith(b"a part\r\n")


async def test_ended_call_keeps_nothing_alive() -> None:
    """U4: an idle task does not hold the last body that it served."""
    app = _App(_ok)

    async with listening(app) as port:
        async with wire(port) as caller:
            for _ in range(2):
                await caller.send(_CALL)
                await caller.until(b"ok")

        def is_gone() -> bool:
            gc.collect()
            return app.cycles[0]() is None

        await until(is_gone, "the call to be forgotten")
        assert app.tasks[0] is not None
        assert not app.tasks[0].done()


async def test_server_knows_the_task_while_a_call_runs() -> None:
    """U5: an idle one would hold up every stop."""
    seen: list[bool] = []

    async def answer(outgoing: Outgoing) -> None:
        seen.append(asyncio.current_task() in app.running)
        await _ok(outgoing)

    app = _App(answer)

    async with listening(app) as port, wire(port) as caller:
        for _ in range(3):
            await caller.send(_CALL)
            await caller.until(b"ok")
        await until(lambda: not app.running, "the last call to end")

    assert seen == [True, True]


@pytest.mark.parametrize("calls_before", [0, 1], ids=["new task", "idle task"])
async def test_call_that_is_cancelled_before_it_begins_is_broken_off(calls_before: int) -> None:
    """U6: its caller is not left to wait for an answer that nobody makes."""
    app = _App(_ok)
    runners = app.runners = _Cancelling(app.serve)

    async with listening(app) as port, wire(port) as caller:
        for _ in range(1 + calls_before):
            await caller.send(_CALL)
            await caller.until(b"ok")
        await until(lambda: not app.running, "the last call to end")
        runners.is_on = True
        await caller.send(_CALL)
        rest = await caller.rest()
        await until(lambda: not runners.cancelled, "the server to forget the task")

    assert rest == b""
