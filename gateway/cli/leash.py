"""The leash: a child process that ends when whoever started it is gone, however it went.

A parent holds the other end of the child's standard input. The kernel closes it even when the
parent is killed, so nothing is left running.
"""

import os
import signal
from threading import Thread
from typing import Annotated

import typer

Leash = Annotated[bool, typer.Option("--leash", help="Stop when standard input ends.")]


def end_with_stdin() -> None:
    """Send this process SIGTERM as soon as its standard input ends."""
    Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
