"""The one table of commands; only the module of the command asked for is loaded.

Why: the data plane starts without Postgres, jobs, Stripe and Apprise, although the worker and the
registry, which need them, are commands of the same program.
"""

import difflib
import importlib
from collections.abc import Sequence
from importlib.metadata import version
from typing import NamedTuple

import typer

from gateway.cli.output import OK, UNREACHABLE, USAGE, complain, say
from gateway.errors import BadRequest, ConfigError, GatewayError

PROGRAM = "budget-gateway"


class Command(NamedTuple):
    """Where a command is: a function, or a ``typer.Typer`` with commands of its own."""

    module: str
    attribute: str
    does: str


COMMANDS = {
    "dev": Command("gateway.cli.dev", "run", "run everything on this machine, with a demo"),
    "serve": Command("gateway.cli.serve", "run", "run the proxy in front of the agents"),
    "worker": Command("gateway.cli.worker", "run", "run the worker: journal, expiry, outbox"),
    "migrate": Command("gateway.cli.migrate", "run", "prepare or upgrade Postgres and Redis"),
    "doctor": Command("gateway.cli.doctor", "run", "check settings, stores, limits and ports"),
    "rebuild": Command("gateway.cli.rebuild", "run", "restore an empty Redis from Postgres"),
    "reconcile": Command("gateway.cli.reconcile", "run", "compare Redis with the ledger"),
    "apply": Command("gateway.cli.apply", "run", "make orgs, limits and agents what a file says"),
    "org": Command("gateway.cli.org", "app", "add, list, show, freeze and thaw orgs"),
    "agent": Command("gateway.cli.agent", "app", "add, list, show, remove and test agents"),
    "key": Command("gateway.cli.key", "app", "add, list, rotate and revoke keys"),
    "limits": Command("gateway.cli.limits", "app", "set, get and check what an org may spend"),
    "budget": Command("gateway.cli.budget", "app", "show, credit, reset budgets; explain a call"),
    "usage": Command("gateway.cli.usage", "run", "sum calls, tokens and cost of an org"),
    "healthcheck": Command("gateway.cli.healthcheck", "run", "ask the local process if it is well"),
}


def run(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code: 0 ok, 2 usage, 3 check failed, 4 no server.

    A fault is one sentence on standard error, never a trace.
    """
    name, *rest = arguments or ["--help"]
    if name in ("--help", "-h", "help"):
        say(_help())
        return OK
    if name == "--version":
        say(f"{PROGRAM} {version(PROGRAM)}")
        return OK
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"see {PROGRAM} --help."
        complain(f"There is no command {name}; {hint}")
        return USAGE
    if unreadable := next((word for word in rest if not _is_text(word)), None):
        complain(f"{unreadable!r} is no UTF-8; expected arguments in UTF-8.")
        return USAGE
    try:
        load(name)(args=rest, prog_name=f"{PROGRAM} {name}")
    except GatewayError as error:
        complain(str(error))
        return exit_code(error)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else OK
    return OK


def _is_text(word: str) -> bool:
    # Bytes that are no UTF-8 arrive as lone surrogates, which no store takes.
    return not any("\ud800" <= letter <= "\udfff" for letter in word)


def load(name: str) -> typer.Typer:
    """Return the application of a command, importing its module and no other command's."""
    command = COMMANDS[name]
    found = getattr(importlib.import_module(command.module), command.attribute)
    if isinstance(found, typer.Typer):
        return found
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    # What a docstring says after its first paragraph is for programmers.
    app.command(help=str(found.__doc__).partition("\n\n")[0])(found)
    return app


def exit_code(error: GatewayError) -> int:
    """Return how a program ends on a fault: what a person can mend is usage, else a server's."""
    return USAGE if isinstance(error, BadRequest | ConfigError) else UNREACHABLE


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:{width}}{command.does}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"Usage: {PROGRAM} COMMAND ...    (COMMAND --help says more)",
            "",
            *lines,
            "",
            "Exit codes: 0 ok, 2 usage, 3 check failed, 4 a server is unreachable.",
        ]
    )
