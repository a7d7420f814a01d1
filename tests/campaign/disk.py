"""The disk of the spools: small, and full when the campaign wants it.

Where this user may mount, it is a file system of its own, and a full one says ENOSPC. Elsewhere it
is a folder in whose place stands a file while it is "full": then no new file can be made.
"""

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

_SIZE = "512k"
_PIECE = b"\0" * 4096


class Disk:
    """One folder; ``is_mounted`` says whether it is a file system of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.is_mounted = self._mount()

    def fill(self) -> None:
        """Leave no room."""
        if not self.is_mounted:
            self.folder.rename(self._aside)
            self.folder.touch()
            return
        with suppress(OSError), self._ballast.open("wb", buffering=0) as ballast:
            while True:
                ballast.write(_PIECE)

    def free(self) -> None:
        """Give the room back; nothing that was written is lost."""
        if self.is_mounted:
            self._ballast.unlink()
            return
        self.folder.unlink()
        self._aside.rename(self.folder)

    def close(self) -> None:
        """Take the file system away, with all that is on it."""
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    @property
    def _aside(self) -> Path:
        return self.folder.with_suffix(".aside")

    def _mount(self) -> bool:
        mount = shutil.which("mount")
        if mount is None:
            return False
        words = [mount, "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(self.folder)]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
