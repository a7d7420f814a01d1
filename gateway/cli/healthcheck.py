"""The command ``healthcheck``: what a container's HEALTHCHECK runs; it needs no curl."""

import http.client
from typing import Annotated, Literal, NamedTuple

import typer

from gateway.cli import environment, output
from gateway.settings import Settings

_TIMEOUT_S = 3.0
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
_OPS_PORTS = {"serve": 9464, "worker": 9466}

Process = Literal["serve", "worker"]


class Health(NamedTuple):
    """Whether a process is ready, and what it said."""

    ready: bool
    says: str


def run(
    process: Annotated[Process, typer.Argument(help="Which process of this machine.")] = "serve",
    as_json: output.AsJson = False,
) -> None:
    """Ask the process on this machine whether it is ready: exit code 0, or 3 and why not."""
    settings = environment.load()
    if process == "serve":
        health = ask(settings.host, settings.port)
    else:
        health = ask(settings.ops_host, ops_port(settings, process))
    output.show(health, health.says, as_json=as_json)
    if not health.ready:
        raise typer.Exit(output.CHECK_FAILED)


def ops_port(settings: Settings, process: Process) -> int:
    """Return the port of a process's probes and metrics; 0 is off."""
    return _OPS_PORTS[process] if settings.ops_port is None else settings.ops_port


def ask(host: str, port: int) -> Health:
    """Return what ``/readyz`` answers there; an address that listens everywhere is asked here."""
    connection = http.client.HTTPConnection(_EVERYWHERE.get(host, host), port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return Health(answer.status == http.client.OK, answer.read(1000).decode().strip())
    except (OSError, http.client.HTTPException) as error:
        return Health(False, f"Nothing answers at {host}:{port}: {error}.")
    finally:
        connection.close()
