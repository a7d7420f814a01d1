"""What a power cut leaves: what the kernel has written, to the page, and nothing after a gap."""

import os
from pathlib import Path

import pytest
from redis.asyncio import Redis

from bench.append_only_file import cut_power, growing_files, unwritten
from bench.page_cache import can_tell, written_length
from tests.servers import Servers

PAGE = os.sysconf("SC_PAGESIZE")
MANIFEST = """\
file appendonly.aof.2.base.rdb seq 2 type b
file appendonly.aof.1.incr.aof seq 1 type h
file appendonly.aof.2.incr.aof seq 2 type i
file appendonly.aof.3.incr.aof seq 3 type i
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of two parts that grow; skip where the kernel tells nothing of it."""
    if not can_tell(tmp_path):
        pytest.skip(f"The kernel does not tell what of {tmp_path} is on the disk.")
    files = tmp_path / "appendonlydir"
    files.mkdir()
    (files / "appendonly.aof.manifest").write_text(MANIFEST, encoding="utf-8")
    return tmp_path


def file_system(folder: Path) -> str:
    """Return the kind of file system that a folder is on."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    around = [words for words in mounts if folder.is_relative_to(words[1])]
    return max(around, key=lambda words: len(words[1]))[2]


def grow(path: Path, size: int, *, sync: bool) -> None:
    """Append to a file; without ``sync`` it stays in the page cache."""
    with path.open("ab") as file:
        file.write(b"x" * size)
        file.flush()
        if sync:
            os.fdatasync(file.fileno())


@pytest.mark.parametrize(
    ("synced", "more", "expected"),
    [
        (0, 1, 0),
        (PAGE, 0, PAGE),
        (PAGE + 10, 0, PAGE + 10),
        (PAGE + 10, 1, PAGE),
        (9 * PAGE, 5 * PAGE, 9 * PAGE),
    ],
)
def test_written_is_what_was_synced(folder: Path, synced: int, more: int, expected: int) -> None:
    """All of it, or up to the page that was written to again since."""
    path = folder / "file"
    grow(path, synced, sync=True)

    grow(path, more, sync=False)

    assert written_length(path) == expected


def test_usual_disk_tells(tmp_path: Path) -> None:
    """Where Linux can tell, the tests that need it are not skipped."""
    version = tuple(int(number) for number in os.uname().release.split(".")[:2])
    if version < (6, 5) or file_system(tmp_path) not in ("ext4", "xfs", "btrfs"):
        pytest.skip(f"Linux {version} on {file_system(tmp_path)}.")

    assert can_tell(tmp_path)


def test_file_system_without_a_disk_tells_nothing() -> None:
    """In memory nothing is ever on the disk, though no page waits to be written."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        pytest.skip("There is no file system in memory.")

    assert not can_tell(memory)


def test_nothing_is_kept_after_a_gap(folder: Path) -> None:
    """A younger part that is on the disk is lost with the end of the older one."""
    older, younger = growing_files(folder)
    grow(older, PAGE, sync=True)
    grow(older, 3, sync=False)
    grow(younger, 2 * PAGE, sync=True)

    assert unwritten(folder) == 3 + 2 * PAGE


async def test_power_cut_takes_what_no_fsync_has_seen(servers: Servers) -> None:
    """What the server had written and answered is gone; what was synced is there."""
    server = servers.own_redis(appendfsync="no")
    if not can_tell(server.folder):
        pytest.skip(f"The kernel does not tell what of {server.folder} is on the disk.")
    async with Redis.from_url(server.url, decode_responses=True) as redis:
        await redis.set("synced", "1")
        # The page that the fsync ends in is taken too, and with it this.
        await redis.set("filling", "x" * 2 * PAGE)
        [path] = growing_files(server.folder)
        grow(path, 0, sync=True)
        await redis.set("answered", "1")

    taken = cut_power(server)
    server.start()

    assert taken
    async with Redis.from_url(server.url, decode_responses=True) as redis:
        assert await redis.keys() == ["synced"]
