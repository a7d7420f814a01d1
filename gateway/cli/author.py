"""Who makes a change: what the audit of limits and credits names as its author."""

import os
import pwd
from typing import Annotated

import typer

from gateway.registry.limits import Author

Actor = Annotated[
    str, typer.Option(help="Who is recorded as making this change; the system user by default.")
]


def author(actor: str, cause: str) -> Author:
    """Return the author of a change: the actor named, or the system user where none is."""
    return Author(actor or _system_user(), cause)


def _system_user() -> str:
    # Not getpass: it believes LOGNAME, which anybody can set to somebody else.
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        # A container may run as a number that no file gives a name.
        return f"uid {uid}"
