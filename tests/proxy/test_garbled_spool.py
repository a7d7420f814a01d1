"""A spool folder after a bad night: what is whole is replayed, what is not is named and kept.

B1 a file cut at any byte gives every end whose line is whole
B2 a line of anything else is counted and hides no other line; nothing unsound is an end
B3 the replay goes on: the file is kept, the others are replayed, the next ones too
"""

import os
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog.testing
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.budgets.changes import Settlement
from gateway.domain.key import is_id
from gateway.proxy.spool import End, Release, Spool
from tests.fuzzing import examples
from tests.proxy import acme
from tests.proxy.conftest import StartPlane
from tests.until import until

_ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
_ENDS: list[End] = [
    Settlement("acme", "researcher", _ID, "day:2026-11-22,total;1d", 5, b'{"a":"\xc3\xa9"}'),
    Release("acme", "researcher", _ID, ""),
    Settlement("acme", "writer", _ID, "total", 2**53 - 1, b"{}"),
]
_SETTLE = {"org": "acme", "agent": "researcher", "id": _ID, "windows": "total"}
_CHARGE = {**_SETTLE, "cost_microcents": 5, "detail": "{}"}
# More JSON of ours cannot hold, also within a list.
_NUMBERS = st.integers(-(2**63), 2**63 - 1)
_WRONG = st.one_of(
    st.none(),
    st.booleans(),
    _NUMBERS,
    st.floats(),
    st.text(max_size=8),
    st.lists(_NUMBERS, max_size=2),
    st.sampled_from(["}", "acme}:x", "../x", "no windows", "l", "1" * 49, -1, 2**53, 1.5, "5"]),
)
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=5)),
    lambda parts: st.one_of(st.lists(parts, max_size=3), st.dictionaries(st.text(), parts)),
    max_leaves=5,
)
_MEMBERS = [*_CHARGE, "v", "currency"]
_CHANGED = st.builds(
    lambda base, name, value: orjson.dumps({**base, name: value}, default=str),
    st.sampled_from([_SETTLE, _CHARGE]),
    st.sampled_from(_MEMBERS),
    _WRONG,
)
_LINES = st.one_of(
    st.binary(max_size=60).map(lambda line: line.replace(b"\n", b" ").replace(b"\r", b" ")),
    _JSON.map(orjson.dumps),
    _CHANGED,
)


def written(folder: Path, *ends: End) -> Path:
    """Return a file of these ends, which nobody writes any more."""
    spool = Spool(folder)
    # By their suffix, because a gateway beside it may put one aside under another at any moment.
    before = set(folder.glob("*.jsonl"))
    spool.append(ends)
    spool.close()
    (path,) = set(folder.glob("*.jsonl")) - before
    return path


def emptied(folder: Path) -> Path:
    """Return the folder without what an example before this one has left."""
    for path in folder.iterdir():
        path.unlink()
    return folder


def read(folder: Path) -> tuple[list[End], int]:
    """Return the ends of the one file there, and how many lines are none."""
    spool = Spool(folder)
    (file,) = spool.take()
    spool.put_back([file])
    return file.ends, file.broken_lines


def test_every_cut_gives_the_whole_lines(tmp_path: Path) -> None:
    """B1: at each byte of the file, the ends before the cut come back and one line is broken."""
    path = written(tmp_path, *_ENDS)
    text = path.read_bytes()
    for size in range(len(text), -1, -1):
        os.truncate(path, size)
        head = text[:size]
        # A line that lacks only its line break is whole.
        whole = head.count(b"\n") + (text[size : size + 1] == b"\n" and size > 0)
        torn = bool(head) and not head.endswith(b"\n") and text[size : size + 1] != b"\n"

        assert read(tmp_path) == (_ENDS[:whole], int(torn)), size


def _is_sound(end: End) -> bool:
    words = (end.org, end.agent, end.id, end.windows)
    cost = end.cost_microcents if isinstance(end, Settlement) else 0
    return (
        all(type(word) is str for word in words)
        and is_id(end.org)
        and is_id(end.agent)
        and re.fullmatch(r"[0-9A-Z]{1,26}", end.id) is not None
        and re.fullmatch(r"[\w:,-]*(;\w+)?", end.windows, re.ASCII) is not None
        and type(cost) is int
        and 0 <= cost < 2**53
    )


@examples(60)
@given(line=_LINES, place=st.integers(0, 3))
@example(orjson.dumps({**_SETTLE, "id": 3}), 1)
@example(orjson.dumps({**_SETTLE, "id": "l"}), 1)
@example(orjson.dumps({**_SETTLE, "org": "acme}:x"}), 1)
@example(orjson.dumps({**_SETTLE, "agent": "../x"}), 1)
@example(orjson.dumps({**_SETTLE, "windows": "no windows"}), 1)
@example(orjson.dumps({**_CHARGE, "windows": "total}:x"}), 1)
@example(orjson.dumps({**_CHARGE, "cost_microcents": 1.5}), 1)
@example(orjson.dumps({**_CHARGE, "cost_microcents": 2**53}), 1)
@example(orjson.dumps({**_CHARGE, "cost_microcents": "5"}), 1)
@example(orjson.dumps({**_CHARGE, "cost_microcents": -5}), 1)
@example(orjson.dumps({**_CHARGE, "v": 2}), 1)
def test_any_line_hides_no_other(tmp_path: Path, line: bytes, place: int) -> None:
    """B2: the other ends come back in order; the line is counted, or it is a sound end."""
    path = written(emptied(tmp_path), *_ENDS)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:place], line + b"\n", *lines[place:]]))

    ends, broken = read(tmp_path)

    assert (ends[:place], ends[len(ends) - len(_ENDS) + place :]) == (_ENDS[:place], _ENDS[place:])
    assert len(ends) + broken == len(_ENDS) + 1
    assert all(map(_is_sound, ends))


_GARBAGE = [
    orjson.dumps({**_SETTLE, "id": 3}),
    orjson.dumps({**_SETTLE, "id": "l"}),
    orjson.dumps({**_CHARGE, "cost_microcents": [5]}),
    orjson.dumps({**_CHARGE, "v": 2}),
    b"\xff\x00" * 50,
]


@pytest.mark.parametrize("garbage", _GARBAGE)
async def test_replay_goes_on(
    org: Any, redis_url: str, tmp_path: Path, start: StartPlane, garbage: bytes
) -> None:
    """B3: beside a bad line, a folder and a file of the next minute, each whole end is replayed."""
    folder = tmp_path / "spool"
    folder.mkdir()
    first, second = (str(acme.ask(1).id) for _ in range(2))
    path = written(folder, Settlement("acme", "researcher", first, "total", 5, b"{}"))
    path.write_bytes(garbage + b"\n" + path.read_bytes())
    (folder / "00000000000000000000000000.jsonl").mkdir()

    async def booked() -> set[str]:
        return {entry["id"] for entry in await acme.journal(org)}

    with structlog.testing.capture_logs() as logs:
        running = await start(redis_url)

        async def is_booked(reservation_id: str) -> bool:
            return reservation_id in await booked()

        await until(lambda: is_booked(first), "the whole end to be replayed")
        written(folder, Settlement("acme", "researcher", second, "total", 5, b"{}"))
        await until(lambda: is_booked(second), "the next file to be replayed")
        await until(lambda: path.with_suffix(".refused").exists(), "the bad file to be kept")

    kept = path.with_suffix(".refused")
    assert garbage in kept.read_bytes()
    assert str(path) in {entry.get("file") for entry in logs}
    assert running.value("faults_total") >= 1
