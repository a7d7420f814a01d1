"""The spool: ends of reservations that could not reach Redis, kept on disk.

Why: a settle that is only in memory is lost with the process, and its hold is charged in full.
Design: each process writes files of its own, JSON lines, and holds a lock on them while it lives.
A file without a lock is left over from a process that died; whoever finds it replays it. A file
that is being replayed is not written any more, so it can be deleted as a whole afterwards.
"""

import fcntl
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import orjson
import structlog
from msgspec import Struct, structs
from ulid import ULID

from gateway.budgets.changes import Settlement
from gateway.domain.key import is_id
from gateway.domain.money import AMOUNT_MICROCENTS_MAX
from gateway.errors import ConfigError

_SUFFIX = ".jsonl"
_REFUSED = ".refused"
_RESERVATION_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{1,26}")
_WINDOWS = re.compile(r"[A-Za-z0-9:,_-]*(?:;[A-Za-z0-9]+)?")

_log = structlog.get_logger()


class Release(Struct, frozen=True, gc=False):
    """A hold to give back; ``windows`` is what ``Held`` gave, or empty."""

    org: str
    agent: str
    id: str
    windows: str


End = Settlement | Release


class SpoolFile(NamedTuple):
    """One file that is ours to replay; ``broken_lines`` could not be read as ends."""

    path: Path
    lock: int
    ends: list[End]
    broken_lines: int


class Spool:
    """The files of one folder. Every method blocks on the disk: call it in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: tuple[Path, int] | None = None

    def prepare(self) -> None:
        """Make the folder, and give what was refused before another chance.

        Raises:
            ConfigError: it cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = self._folder / f"{ULID()}.probe"
            probe.touch()
            probe.unlink()
            for path in self._folder.glob(f"*{_REFUSED}"):
                path.rename(path.with_suffix(_SUFFIX))
        except OSError as error:
            raise ConfigError(
                f"GATEWAY_SPOOL_DIR {self._folder} cannot be written: {error}."
            ) from error

    def append(self, ends: Iterable[End]) -> None:
        """Write ends so that they survive a crash of the machine.

        Raises:
            OSError: they are not on disk.
        """
        if self._open is None:
            self._open = self._create()
        lines = b"".join(_line(end) for end in ends)
        _, descriptor = self._open
        try:
            # One write call: after a crash only the last line can be torn.
            while lines:
                lines = lines[os.write(descriptor, lines) :]
            os.fsync(descriptor)
        except OSError:
            # Its last line may be torn, and what follows would be one line with that.
            self.close()
            raise

    def take(self) -> list[SpoolFile]:
        """Return every file that no living process writes, ours included, to be replayed."""
        files = []
        own, self._open = self._open, None
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            try:
                if own is not None and path == own[0]:
                    files.append(_read(*own))
                elif (lock := _lock(path)) is not None:
                    files.append(_read(path, lock))
            except OSError as error:
                # What the disk does not give now must not keep the others from being replayed.
                _log.error("spool_file_unreadable", file=str(path), error=str(error))
        return files

    def put_back(self, files: Iterable[SpoolFile]) -> None:
        """Let go of files that could not be replayed; they stay on disk."""
        for file in files:
            os.close(file.lock)

    def finish(self, file: SpoolFile, *, keep: bool) -> None:
        """Delete a replayed file, or keep it aside under another name for a person to look at.

        It is let go of, also where the disk refuses: then it is replayed once more.
        """
        try:
            if keep:
                file.path.rename(file.path.with_suffix(_REFUSED))
            else:
                file.path.unlink()
        finally:
            os.close(file.lock)

    def close(self) -> None:
        """Let go of our own file, so that another process may replay it."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def _create(self) -> tuple[Path, int]:
        path = self._folder / f"{ULID()}{_SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Without this the name of the file itself may not survive.
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError:
            # Nothing is in it; whoever replays the folder next takes it away.
            os.close(descriptor)
            raise
        return path, descriptor


def _lock(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if os.fstat(descriptor).st_nlink == 0:
        # Another process replayed and deleted it between our open and our lock.
        os.close(descriptor)
        return None
    return descriptor


def _read(path: Path, lock: int) -> SpoolFile:
    ends, broken = [], 0
    for line in path.read_bytes().splitlines():
        end = _end(line)
        if end is None:
            broken += 1
        else:
            ends.append(end)
    return SpoolFile(path, lock, ends, broken)


def _line(end: End) -> bytes:
    fields: dict[str, object] = structs.asdict(end)
    if isinstance(end, Settlement):
        fields["detail"] = end.detail.decode()
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def _end(line: bytes) -> End | None:
    try:
        fields = orjson.loads(line)
        if "cost_microcents" in fields:
            detail = fields.pop("detail").encode()
            end: End = Settlement(detail=detail, **fields)
        else:
            end = Release(**fields)
        return end if _is_sound(end) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _is_sound(end: End) -> bool:
    """Say whether an end can be sent: keys are built of its words, which nobody checks again."""
    cost = end.cost_microcents if isinstance(end, Settlement) else 0
    return (
        is_id(end.org)
        and is_id(end.agent)
        and bool(_RESERVATION_ID.fullmatch(end.id))
        and bool(_WINDOWS.fullmatch(end.windows))
        and type(cost) is int
        and 0 <= cost <= AMOUNT_MICROCENTS_MAX
    )
