"""The greeting: what is said on a new connection before its first call.

All at once, because a way that is slow takes its time for each answer that is waited for. Only a
password is waited for: before it is known a server may refuse texts as long as the scripts.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from gateway.budgets.address import Address
from gateway.budgets.mux import Mux
from gateway.budgets.replies import reading
from gateway.budgets.scripts import Form, Script
from gateway.errors import StoreError, StoreUnavailable

_CLIENT_NAME = "budget-gateway"
Loaded = list["asyncio.Future[Any]"]
_RUN_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)


async def greet(mux: Mux, address: Address, scripts: Sequence[Script]) -> bytes:
    """Log in, load the scripts, and return the run id of the server; empty where it is not told.

    Raises:
        StoreError: the server refuses, or (StoreUnavailable) is a replica or gone.
    """
    if address.username:
        # Also without a password: an ACL may ask none of a user.
        await mux.send(("AUTH", address.username, address.password))
    elif address.password:
        await mux.send(("AUTH", address.password))
    selected = mux.send(("SELECT", address.db)) if address.db else None
    named = mux.send(("CLIENT", "SETNAME", _CLIENT_NAME))
    asked_role, asked_info = mux.send(("ROLE",)), mux.send(("INFO", "server"))
    loaded = _load(mux, [script.flagged.text for script in scripts])
    if selected is not None:
        await selected
    await _if_allowed(named)
    role = await _if_allowed(asked_role)
    with reading():
        if role is not None and role[0] != b"master":
            raise StoreUnavailable("it is a replica, which takes no writes")
    info = await _if_allowed(asked_info)
    mux.form = await _form(mux, loaded, scripts)
    with reading():
        found = _RUN_ID.search(info) if info is not None else None
    return found[1] if found else b""


async def _form(mux: Mux, loaded: Loaded, scripts: Sequence[Script]) -> Form:
    """Return the form of the scripts that this server compiles, once all are loaded."""
    try:
        await _all(loaded)
    except StoreError as error:
        # Before Redis 7 the line of flags is a syntax error. Trying needs no permission that
        # the scripts do not need; asking for the version does.
        if error.transient or "compiling" not in str(error):
            raise
        await _all(_load(mux, [script.plain.text for script in scripts]))
        return 2
    return 1


async def _if_allowed(reply: "asyncio.Future[Any]") -> Any:
    """Return the reply, or None where an ACL or a managed Redis forbids the command."""
    try:
        return await reply
    except StoreError as error:
        if str(error).startswith(("NOPERM", "ERR unknown command")):
            return None
        raise


def _load(mux: Mux, texts: Sequence[str]) -> Loaded:
    return [mux.send(("SCRIPT", "LOAD", text)) for text in texts]


async def _all(loaded: Loaded) -> None:
    for reply in loaded:
        await reply
