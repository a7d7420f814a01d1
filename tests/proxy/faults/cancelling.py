"""A call that is cancelled at one chosen await of its own."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class CancelledAt:
    """Awaiting this runs a coroutine and cancels the task at the coroutine's nth await.

    ``reached`` says whether there was such an await.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, None], number: int) -> None:
        self.reached = False
        self._coroutine = coroutine
        self._left = number

    def __await__(self) -> Generator[Any, Any, None]:
        """Run it, passing on what it waits for and what that ended in."""
        thrown: BaseException | None = None
        while True:
            try:
                waits_for = self._coroutine.throw(thrown) if thrown else self._coroutine.send(None)
            except StopIteration:
                return
            if self._left == 0:
                self._cancel_soon()
            self._left -= 1
            try:
                yield waits_for
                thrown = None
            except asyncio.CancelledError as error:
                thrown = error

    def _cancel_soon(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.reached = True
        asyncio.get_running_loop().call_soon(task.cancel)


async def run(call: CancelledAt) -> None:
    """Await a call in a task of its own; being cancelled is no failure."""

    async def awaited() -> None:
        await call

    task = asyncio.create_task(awaited())
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
