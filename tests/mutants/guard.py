"""Guards: lines that keep the promise, and the tests that turn red where one is missing.

The list is ``guards.toml``, beside this module.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("guards.toml")


class Guard(NamedTuple):
    """One line of the list: in ``file`` ``text`` is replaced, and every test of ``red`` must fail.

    ``why`` says what goes wrong without it. The tests of ``green`` must still pass: they show that
    the mutant runs at all, since what cannot even be loaded would turn any test red. ``is_cheap``
    marks those which ``make test`` runs.
    """

    name: str
    why: str
    file: str
    text: str
    replacement: str
    red: tuple[str, ...]
    green: tuple[str, ...]
    is_cheap: bool

    @property
    def tests(self) -> tuple[str, ...]:
        """The ids of all tests that a trial of it runs."""
        return tuple(dict.fromkeys((*self.red, *self.green)))


def read_guards(text: str) -> list[Guard]:
    """Return the guards of a list in their order."""
    table = tomllib.loads(text)
    return [_guard(fields, table["green"]) for fields in table["guard"]]


def guards() -> list[Guard]:
    """Return the guards of the product."""
    return read_guards(TABLE.read_text(encoding="utf-8"))


def _guard(fields: Mapping[str, str | list[str]], greens: Mapping[str, str]) -> Guard:
    named = {name: str(fields[name]) for name in ("name", "why", "file", "text", "replacement")}
    room = next(folder for folder in greens if named["file"].startswith(folder))
    red, own = fields["red"], fields.get("green", greens[room])
    return Guard(**named, red=_ids(red), green=_ids(own), is_cheap=bool(fields.get("cheap")))


def _ids(tests: str | list[str]) -> tuple[str, ...]:
    return (tests,) if isinstance(tests, str) else tuple(tests)
