"""Files are named for a noun, and one concept has one word."""

import re
from pathlib import Path

import pytest

from tests.house.identifiers import identifiers
from tests.house.sources import INCLUDES, PYTHON, SCRIPTS, SQL, name

BANNED = {"utils", "helpers", "common", "core", "base", "manager", "service", "handler", "misc"}
# The words that the glossary gives up for another one, and that one.
GLOSSARY = {
    "adjustment": "credit or correction",
    "affected_scopes": "chain",
    "allowance": "budget",
    "capture": "settle",
    "consumption": "usage",
    "debt": "overage",
    "deduct": "correct",
    "expense": "cost",
    "finalise": "settle",
    "finalize": "settle",
    "hook": "webhook",
    "micros": "microcents, or microseconds",
    "overdraft": "overage",
    "predebit": "reserve",
    "pre_debit": "reserve",
    "reap": "expire",
    "reseed": "repair",
}
_GIVEN_UP = re.compile(rf"(?:^|_)({'|'.join(GLOSSARY)})(?:s|d|ed|er|r|ing)?(?=_|$)")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def given_up(identifier: str) -> str | None:
    """Return the word in an identifier that the glossary has given up."""
    found = _GIVEN_UP.search(_HUMP.sub("_", identifier).lower())
    return found[1] if found else None


@pytest.mark.parametrize("path", [*PYTHON, *SCRIPTS, *INCLUDES, *SQL], ids=name)
def test_file_is_named_for_its_noun(path: Path) -> None:
    """A name that fits everything says nothing."""
    vague = BANNED & {*path.stem.split("_"), *path.parent.name.split("_")}

    assert not vague, f"{vague} fits everything: name the file for the noun that it serves."


@pytest.mark.parametrize("path", [*PYTHON, *SCRIPTS, *INCLUDES, *SQL], ids=name)
def test_one_concept_has_one_word(path: Path) -> None:
    """No identifier uses a word that the glossary has given up for another."""
    found = {
        identifier: GLOSSARY[word]
        for identifier in identifiers(path)
        if (word := given_up(identifier)) is not None
    }

    assert not found, f"Use the glossary's word instead: {found}."


@pytest.mark.parametrize(
    ("identifier", "word"),
    [
        ("affected_scopes", "affected_scopes"),
        ("captured_microcents", "capture"),
        ("DebtLedger", "debt"),
        ("on_hook", "hook"),
        ("webhook_event", None),
        ("micros", "micros"),
        ("amount_microcents", None),
        ("reaper", "reap"),
    ],
)
def test_word_is_found_in_every_form(identifier: str, word: str | None) -> None:
    """A plural, a participle or a hump hides no word, and a longer word is another one."""
    assert given_up(identifier) == word
