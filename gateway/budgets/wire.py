"""What the verbs need of a connection to Redis, and no more."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from gateway.budgets.frames import Word
from gateway.budgets.node import Node
from gateway.budgets.scripts import Form, Script
from gateway.budgets.waiter import Waiter


class Line(Protocol):
    """Where packed script calls go now."""

    @property
    def form(self) -> Form:
        """The form of the scripts that is understood at its end."""

    def transmit(self, waiter: Waiter, packed: bytes, source: str | None = None) -> None:
        """Queue a packed EVALSHA of the script that has this source."""


class Wire(Protocol):
    """A way to send calls to Redis; ``connection.Connection`` is the real one."""

    @property
    def node(self) -> Node | None:
        """The node marker as it was last seen, None while it is missing."""

    @property
    def admits(self) -> Node | None:
        """The same marker, None also while nothing may be admitted; ``problem`` says why."""

    @property
    def problem(self) -> str:
        """Why nothing may be admitted, as a sentence; empty where something may."""

    @property
    def line(self) -> Line:
        """Where the next call goes; another one may stand there after each turn of the loop."""

    @property
    def epoch(self) -> str:
        """The epoch of that node, as the scripts are told it."""

    @property
    def skew_ms(self) -> int | None:
        """How far this machine's clock was ahead of Redis's at the last look."""

    def submit(
        self, script: Script, keys: Sequence[str], args: Sequence[Word]
    ) -> asyncio.Future[list[Any]]:
        """Queue a script call; strings in the reply are bytes."""

    def command(self, *words: Word) -> asyncio.Future[Any]:
        """Queue any other command."""

    def future(self) -> asyncio.Future[Any]:
        """Return a waiter that can be awaited."""
