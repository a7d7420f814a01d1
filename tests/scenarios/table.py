"""Tables: the lines of a scenario.

A line is a verb, its words, and what is answered. Amounts are cents, ``#`` begins a comment.

    budget  org.month 100                      a limit; `limit FIELD VALUE` sets any other field,
    limit   org.month.mode soft                `unset` in place of a value removes one
    reserve r1 for researcher 25               HELD org.month available 75
    reserve r2 for researcher 80               BUSY
    settle  r1 at 18                           SETTLED
    balance org.month                          spent 18 held 0
    tick    31s                                `tick to 2037-11-23T00:00:00Z` moves to an instant

An answer may be told in part: its first words, and any of its pairs of a name and a value.
``...`` tells nothing: then only the engines must agree.
"""

import re
from typing import NamedTuple

_LINES = {
    "budget": re.compile(r"budget (\S+) (\S+)"),
    "limit": re.compile(r"limit (\S+) (\S+)"),
    "tick": re.compile(r"tick (?:to )?(\S+)"),
    "reserve": re.compile(r"reserve (\S+) for (\S+) (\S+)"),
    "settle": re.compile(r"settle (\S+) at (\S+)"),
    "release": re.compile(r"release (\S+)"),
    "extend": re.compile(r"extend (\S+) to (\S+)(?: for (\S+))?"),
    "expire": re.compile(r"expire (\S+)"),
    "credit": re.compile(r"credit (\S+) to (\S+) (\S+)"),
    "balance": re.compile(r"balance (\S+)"),
}
_SILENT = ("budget", "limit", "tick")


class Line(NamedTuple):
    """One line of a table: what is done, with which words, and the answer that it tells."""

    number: int
    text: str
    verb: str
    words: tuple[str, ...]
    expected: str


def read_table(table: str) -> list[Line]:
    """Return the lines of a table; comments and empty lines are left out.

    Raises:
        ValueError: a line is not one of a table; the message shows it.
    """
    return [
        _read_line(number, text)
        for number, text in enumerate(table.splitlines(), 1)
        if text.partition("#")[0].strip()
    ]


def _read_line(number: int, text: str) -> Line:
    words = " ".join(text.partition("#")[0].split())
    verb = words.partition(" ")[0]
    match = _LINES[verb].match(words) if verb in _LINES else None
    if match is None:
        raise ValueError(f"Line {number} is {text!r}; expected one of {', '.join(_LINES)}.")
    expected = words[match.end() :].strip()
    if bool(expected) is (verb in _SILENT):
        wanted = "no answer" if verb in _SILENT else "an answer"
        raise ValueError(f"Line {number} is {text!r}; {verb} takes {wanted}.")
    return Line(number, text, verb, tuple(word or "" for word in match.groups()), expected)
