"""Options: those of a command that has many, declared as the fields of one named tuple."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

Command = Callable[..., None]

_NAME = "options"


def spread(fields: type[Any]) -> Callable[[Command], Command]:
    """Make each field of a named tuple an option of a command, which takes them as ``options``.

    The annotation of a field is that of an option, its default the option's.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            options = fields(**{name: given.pop(name) for name in fields._fields})
            command(**given, **{_NAME: options})

        own = inspect.signature(command).parameters
        hints = get_type_hints(fields, include_extras=True)
        defaults = fields._field_defaults
        parameters = [parameter for name, parameter in own.items() if name != _NAME]
        parameters += [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(name, inspect.Parameter.empty),
                annotation=hints[name],
            )
            for name in fields._fields
        ]
        # Typer reads a command's signature and its annotations, so both tell of the fields.
        run.__dict__["__signature__"] = inspect.Signature(parameters)
        run.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        return run

    return decorate
