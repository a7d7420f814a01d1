"""What the verbs need of a connection to Redis, and no more."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from gateway.budgets.frames import Frame, Word
from gateway.budgets.node import Node
from gateway.budgets.scripts import Script


class Wire(Protocol):
    """A way to send calls to Redis; ``connection.Connection`` is the real one."""

    @property
    def node(self) -> Node | None:
        """The node marker as it was last seen, None while it is missing."""

    @property
    def skew_ms(self) -> int | None:
        """How far this machine's clock was ahead of Redis's at the last look."""

    def submit(
        self, script: Script, keys: Sequence[str], args: Sequence[Word]
    ) -> asyncio.Future[list[Any]]:
        """Queue a script call; strings in the reply are bytes."""

    def submit_frame(self, frame: Frame, values: Sequence[bytes]) -> asyncio.Future[list[Any]]:
        """Queue a script call whose words stand in a frame, but for ``values``."""

    def command(self, *words: Word) -> asyncio.Future[Any]:
        """Queue any other command."""
