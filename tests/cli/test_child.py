"""A child of dev says why it has ended."""

import signal
from pathlib import Path

from gateway.cli.child import start_child


async def test_killed_child_is_not_explained_by_its_last_log_line(tmp_path: Path) -> None:
    """What it logged before is no reason."""
    code = "import os, signal; print('serving', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    child = await start_child("serve", ["-c", code], {}, tmp_path)
    await child.wait()
    assert str(child.fault()) == f"serve has ended: killed by {signal.SIGKILL.name}"
