"""The spool: what it took survives a crash, belongs to one process, and is read in order."""

import errno
import os
import resource
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.budgets.changes import Settlement
from gateway.errors import ConfigError
from gateway.proxy.spool import Release, Spool

_SETTLEMENT = Settlement(
    "acme", "researcher", "01A", "day:2026-11-22,total;d1", 5, b'{"a":"\\u00e9"}'
)
_RELEASE = Release("acme", "researcher", "01B", "total")


def test_ends_come_back_as_they_were(tmp_path: Path) -> None:
    """A settle and a release are read back equal and in order, over several writes."""
    spool = Spool(tmp_path)

    spool.append([_SETTLEMENT])
    spool.append([_RELEASE, _SETTLEMENT])
    (file,) = spool.take()

    assert (file.ends, file.broken_lines) == ([_SETTLEMENT, _RELEASE, _SETTLEMENT], 0)


def test_file_is_written_until_it_is_taken(tmp_path: Path) -> None:
    """A file that is being replayed is not written any more, so nothing is deleted unread."""
    spool = Spool(tmp_path)

    spool.append([_SETTLEMENT])
    (first,) = spool.take()
    spool.append([_RELEASE])
    spool.finish(first, keep=False)
    (second,) = spool.take()

    assert second.ends == [_RELEASE]


def test_file_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    """What another process writes or replays is not taken; what it let go of is."""
    theirs, ours = Spool(tmp_path), Spool(tmp_path)

    theirs.append([_SETTLEMENT])
    assert ours.take() == []
    taken = theirs.take()
    assert ours.take() == []
    theirs.put_back(taken)

    assert [file.ends for file in ours.take()] == [[_SETTLEMENT]]


@pytest.mark.parametrize("is_asked", [stat.S_ISREG, stat.S_ISDIR], ids=["file", "folder"])
def test_end_is_on_disk_when_the_disk_has_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_asked: Callable[[int], bool]
) -> None:
    """Until then a crash of the machine takes it back, or the name of its file."""
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        if is_asked(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "The disk is broken")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)

    spool = Spool(tmp_path)
    with pytest.raises(OSError, match="broken"):
        spool.append([_SETTLEMENT])

    # Nor does a disk that refuses again and again use up the descriptors of the process.
    free = os.dup(0)
    os.close(free)
    for _ in range(3):
        with pytest.raises(OSError, match="broken"):
            spool.append([_SETTLEMENT])
    again = os.dup(0)
    os.close(again)
    assert again == free


def test_torn_tail_is_tolerated(tmp_path: Path) -> None:
    """A last line that was torn by a crash does not hide the ends before it."""
    spool = Spool(tmp_path)
    spool.append([_SETTLEMENT, _RELEASE])
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - 9)

    (file,) = spool.take()

    assert (file.ends, file.broken_lines) == ([_SETTLEMENT], 1)


@pytest.mark.parametrize("line", [b"7", b"{}", b"[1]", b'{"org": 1}', b"\x00\xff", b""])
def test_garbage_is_counted(tmp_path: Path, line: bytes) -> None:
    """A line that is no end is counted and the rest is read."""
    spool = Spool(tmp_path)
    spool.append([_RELEASE])
    (path,) = tmp_path.iterdir()
    path.write_bytes(line + b"\n" + path.read_bytes())

    (file,) = spool.take()

    assert (file.ends, file.broken_lines) == ([_RELEASE], 1)


def test_finished_file_is_gone(tmp_path: Path) -> None:
    """A replayed file is deleted; one that was refused is kept until the next start."""
    spool = Spool(tmp_path)
    spool.append([_RELEASE])
    spool.finish(spool.take()[0], keep=False)
    assert list(tmp_path.iterdir()) == []

    spool.append([_RELEASE])
    spool.finish(spool.take()[0], keep=True)

    assert [path.suffix for path in tmp_path.iterdir()] == [".refused"]
    assert spool.take() == []
    spool.prepare()
    assert [file.ends for file in spool.take()] == [[_RELEASE]]


def test_file_is_for_the_gateway_alone(tmp_path: Path) -> None:
    """Others cannot read or write what will be booked."""
    spool = Spool(tmp_path / "spool")
    spool.prepare()
    spool.append([_RELEASE])

    (path,) = (tmp_path / "spool").iterdir()

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_unusable_folder_stops_the_start(tmp_path: Path) -> None:
    """A folder that cannot be made is one sentence that names the setting."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match="GATEWAY_SPOOL_DIR"):
        Spool(tmp_path / "file" / "spool").prepare()


def test_end_behind_a_torn_line_is_whole(tmp_path: Path) -> None:
    """The disk was full in the middle of a line; what follows must not become a part of it."""
    spool = Spool(tmp_path)
    spool.append([_SETTLEMENT])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    number = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            spool.append([_RELEASE])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, number)
    spool.append([_RELEASE])

    files = spool.take()

    assert [end for file in files for end in file.ends] == [_SETTLEMENT, _RELEASE]
    spool.put_back(files)
