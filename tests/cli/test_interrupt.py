"""Ctrl-C ends a command without a trace, also while its modules are still loading."""

import subprocess
import sys

import pytest

_PROGRAM = """
import signal, sys
from gateway.__main__ import main

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv = ["budget-gateway", "doctor"]
main()
"""


@pytest.mark.parametrize("module", ["typer", "gateway.cli.doctor", "asyncpg"])
def test_interrupt_while_loading_is_no_trace(module: str) -> None:
    """The exit code is the shell's word for it."""
    program = _PROGRAM.format(module=module)

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
