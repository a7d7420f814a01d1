"""The command dev: everything starts, the printed lines are true, and nothing is left behind."""

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from redis.asyncio import Redis

from bench.processes import free_port
from tests.until import until

START_S = 60.0

pytestmark = pytest.mark.timeout(180)


class Dev:
    """A running dev, what it has printed, and how it was asked to print it."""

    def __init__(self, process: asyncio.subprocess.Process, printed: str, folder: Path) -> None:
        self.process = process
        self.printed = printed
        self.folder = folder

    def steps(self) -> list[str]:
        """Return the command printed below each number."""
        return re.findall(r"^\d\. .*\n +(.+)$", self.printed, re.MULTILINE)

    async def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def dev(folder: Path, data: Path, environ: dict[str, str]) -> AsyncIterator[Dev]:
    """Start dev in a folder and yield it when it has printed its lines."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "dev", "--data-dir", str(data)),
        cwd=folder,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        lines = list[str]()
        async with asyncio.timeout(START_S):
            while line := (await process.stdout.readline()).decode():
                lines.append(line)
                if "Anthropic(" in line:
                    break
        yield Dev(process, "".join(lines), folder)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def answer(command: str) -> httpx.Response:
    """Do what a printed curl line does."""
    words = shlex.split(command)
    headers = [words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H"]
    url, body = words[2], words[words.index("-d") + 1]
    async with httpx.AsyncClient() as client:
        return await client.post(url, headers=dict(headers), content=body)


async def set_limit(command: str) -> None:
    """Do what the printed redis-cli line does."""
    _, _, port, *words = shlex.split(command)
    redis: Any = Redis(port=int(port))
    async with redis:
        await redis.execute_command(*words)


def leftovers(data: Path) -> list[str]:
    """Return the processes that belong to a data folder."""
    found = subprocess.run(["pgrep", "-af", str(data)], capture_output=True, text=True, check=False)
    return found.stdout.splitlines()


@pytest.fixture
def places(servers: Any, tmp_path: Path) -> tuple[Path, Path, dict[str, str]]:
    """Return a working folder, a data folder that Postgres may enter, and free ports."""
    data = servers.folder / f"dev-{tmp_path.name}"
    ports = {"GATEWAY_PORT": str(free_port()), "GATEWAY_OPS_PORT": "0"}
    return tmp_path, data, ports


Places = tuple[Path, Path, dict[str, str]]


async def test_printed_lines_do_what_they_say(places: Places) -> None:
    """200, then 402, then the limit is raised and the same call is 200, on both starts."""
    folder, data, environ = places
    async with dev(folder, data, environ) as first:
        fits, too_much, raised, again = first.steps()
        statuses = [(await answer(fits)).status_code, (await answer(too_much)).status_code]
        await set_limit(raised)
        statuses.append((await answer(again)).status_code)
        ended = await first.stop()
    async with dev(folder, data, environ) as second:
        fits, too_much, raised, again = second.steps()
        statuses += [(await answer(fits)).status_code, (await answer(too_much)).status_code]
        await set_limit(raised)
        statuses.append((await answer(again)).status_code)
        await second.stop()

    assert statuses == [200, 402, 200, 200, 402, 200]
    assert ended == 0
    assert "of which 0 are spent" in first.printed
    assert "of which 0.4" in second.printed
    assert leftovers(data) == []


async def test_call_of_the_demo_is_booked(places: Places) -> None:
    """Counters, ledger and answer agree: the command line tells the story of the call."""
    folder, data, environ = places
    async with dev(folder, data, environ) as running:
        reply = await answer(running.steps()[0])

        async def usage() -> list[dict[str, Any]]:
            found = await command(folder, "usage", "demo", "--json")
            rows: list[dict[str, Any]] = found["rows"]
            return rows

        async def booked() -> bool:
            return bool(await usage())

        await until(booked, "the call to be booked", 30)
        rows = await usage()
        story = await command(
            folder, "budget", "explain", "demo", reply.headers["budget-request-id"], "--json"
        )

    assert [row["cost_cents"] for row in rows] == [reply.headers["budget-cost"]]
    assert orjson.dumps(story).count(b'"gpt-4o"') >= 1


async def command(folder: Path, *words: str) -> dict[str, Any]:
    """Run a command in the working folder of dev and return its document."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *words),
        cwd=folder,
        stdout=subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, Any] = orjson.loads(out)
    return found


async def test_killed_dev_leaves_nothing_running(places: Places) -> None:
    """kill -9 takes the servers and the gateway with it, and the next start finds its data."""
    folder, data, environ = places
    async with dev(folder, data, environ) as running:
        await running.stop(signal.SIGKILL)

    await until(lambda: leftovers(data) == [], "every process to end", 60)
    async with dev(folder, data, environ) as again:
        status = (await answer(again.steps()[0])).status_code
        await again.stop()

    assert status == 200


async def test_port_that_is_taken_is_one_sentence(places: Places) -> None:
    """dev says which setting to change and exits with 2; another gateway is not its own."""
    folder, data, environ = places

    async def is_ready(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n")
        writer.close()

    async with await asyncio.start_server(is_ready, "127.0.0.1", 0) as other:
        taken = {**environ, "GATEWAY_PORT": str(other.sockets[0].getsockname()[1])}
        async with dev(folder, data, taken) as refused:
            await refused.process.wait()

    assert refused.process.returncode == 2
    assert "GATEWAY_PORT 127.0.0.1" in refused.printed
    assert "200" not in refused.printed
    assert leftovers(data) == []


async def test_folder_that_cannot_be_one_is_one_sentence(places: Places) -> None:
    """A file where the data should be is named, and nothing is started."""
    folder, data, environ = places
    file = folder / "file"
    file.touch()
    async with dev(folder, file, environ) as refused:
        await refused.process.wait()

    assert refused.process.returncode == 2
    assert f"data folder {file}" in refused.printed
    assert "Traceback" not in refused.printed
    assert leftovers(data) == []
