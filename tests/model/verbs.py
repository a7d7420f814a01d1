"""Verbs: what the contract answers to a script call, and what it leaves behind."""

from collections.abc import Callable
from typing import Any

from tests.model.admission import extend, reserve
from tests.model.budgets import Answer
from tests.model.calls import Call, script_name
from tests.model.changes import correct, credit, inspect, repair
from tests.model.ends import expire, release, settle
from tests.model.keys import authenticate
from tests.model.org import Org
from tests.model.resumption import resume

_VERBS: dict[str, Callable[[Org, Any], Answer]] = {
    verb.__name__: verb
    for verb in (
        reserve,
        settle,
        release,
        resume,
        extend,
        expire,
        credit,
        correct,
        repair,
        inspect,
        authenticate,
    )
}


def run(org: Org, call: Call) -> Answer:
    """Run a call on the books of an org, and return the reply of the script."""
    return _VERBS[script_name(call)](org, call)
