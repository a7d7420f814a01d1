"""The page cache: how much of a file the kernel has written to its disk.

What a power cut leaves of a file that only grows is everything before its first page that is not
yet written, and perhaps more. Linux tells since 6.5 which pages those are (``cachestat``).
``WAITAOF`` cannot be asked: Valkey 8.1 and 9.1 and Redis 7.4.0 to 7.4.2 confirm under ``everysec``
what no fsync has seen (redis/redis#13793).
"""

import ctypes
import os
import tempfile
from pathlib import Path

_CACHESTAT = 451
_PAGE = os.sysconf("SC_PAGESIZE")
_libc = ctypes.CDLL(None, use_errno=True)


class _Range(ctypes.Structure):
    _fields_ = (("off", ctypes.c_uint64), ("len", ctypes.c_uint64))


class _Pages(ctypes.Structure):
    _fields_ = (
        ("cached", ctypes.c_uint64),
        ("dirty", ctypes.c_uint64),
        ("writeback", ctypes.c_uint64),
        ("evicted", ctypes.c_uint64),
        ("recently_evicted", ctypes.c_uint64),
    )


def written_length(path: Path) -> int:
    """Return how many bytes of a file are on its disk; the page that is not does not count.

    Raises:
        OSError: the kernel does not tell.
    """
    size = path.stat().st_size
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if not _unwritten(descriptor, size):
            return size
        # The first unwritten page is one of [low, high).
        low, high = 0, -(-size // _PAGE)
        while high - low > 1:
            middle = (low + high) // 2
            if _unwritten(descriptor, middle * _PAGE):
                high = middle
            else:
                low = middle
        return low * _PAGE
    finally:
        os.close(descriptor)


def can_tell(folder: Path) -> bool:
    """Whether the kernel and the file system of a folder tell written from unwritten."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(b"x" * _PAGE)
        file.flush()
        try:
            before = written_length(Path(file.name))
            os.fdatasync(file.fileno())
            return (before, written_length(Path(file.name))) == (0, _PAGE)
        except OSError:
            return False


def _unwritten(descriptor: int, length: int) -> int:
    """Return how many pages of the first bytes of a file are not on its disk."""
    # Of length 0 the kernel would tell of the whole file.
    if not length:
        return 0
    asked, pages = _Range(0, length), _Pages()
    if _libc.syscall(_CACHESTAT, descriptor, ctypes.byref(asked), ctypes.byref(pages), 0):
        raise OSError(ctypes.get_errno(), "cachestat")
    return int(pages.dirty + pages.writeback)
