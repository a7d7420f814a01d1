"""Children: the processes that ``dev`` runs, which end when it ends, however it ends."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.cli.data_folder import last_lines
from gateway.errors import ConfigError

# Longer than a drain takes by default, and longer than Redis needs to write what it has.
_STOP_S = 40.0


class Child:
    """One Python process with a log of its own.

    Its standard input is a leash: when our end closes, because we stop or were killed, it stops.
    A process group of its own keeps Ctrl-C from it: who stops when is for us to say.
    """

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.returncode is not None

    async def wait(self) -> None:
        """Wait until it has ended."""
        await self._process.wait()

    async def first_line(self) -> bytes:
        """Return the first line that it prints, empty where it ends without one."""
        assert self._process.stdout is not None, "it was started with its output kept"
        return await self._process.stdout.readline()

    def fault(self) -> ConfigError:
        """Return why it ended, in its own last words."""
        code = self._process.returncode
        # A process that is killed says nothing of it: its last words are about something else.
        killed = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else ""
        said = killed or last_lines(self._log) or f"exit code {code}"
        return ConfigError(f"{self.name} has ended: {said}")

    async def stop(self) -> None:
        """Ask it to stop and wait until it has."""
        if not self.ended:
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


async def start_child(
    name: str,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    folder: Path,
    *,
    keeps_output: bool = False,
) -> Child:
    """Start a Python process that logs into a folder; with ``keeps_output`` only its errors."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            env={**os.environ, **environ},
            stdin=PIPE,
            stdout=PIPE if keeps_output else output,
            stderr=output,
            process_group=0,
        )
    return Child(name, process, log)
