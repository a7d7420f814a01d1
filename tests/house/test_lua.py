"""The scripts say what they take and answer, and take no more than Redis and money allow."""

import re
from pathlib import Path
from typing import get_args

import pytest

from gateway.budgets.keys import LAYOUTS
from gateway.budgets.scripts import Scripts, load_scripts
from gateway.domain.reservation import KeyWord, Refusal
from tests.house.sources import INCLUDES, ROOT, SCRIPTS, name

WORD = re.compile(r"\b[A-Z][A-Z_]{1,}\b")
ANSWER = re.compile(r"(?:\{|answer\(| = )'([A-Z_]{2,})'")
FORBIDDEN = ("tostring", "cjson", "redis.pcall", "MAXLEN", "'KEYS'", "'SCAN'", "redis.error_reply")


def header(path: Path) -> str:
    """Return the header comment of a script."""
    return path.read_text(encoding="utf-8").partition("--[[")[2].partition("]]")[0]


def assembled(path: Path) -> str:
    """Return the code of a script with its includes, without its header."""
    text: str = getattr(load_scripts(), path.stem).plain.text
    return text.partition("]]")[2]


def section(path: Path, title: str) -> str:
    """Return one section of a header."""
    found = re.search(rf"^{title} .*?(?=^[A-Z]+ |\Z)", header(path), re.MULTILINE | re.DOTALL)
    return found[0] if found else ""


def test_every_verb_is_a_script() -> None:
    """The folder holds the verbs of the contract, and nothing that no one calls."""
    assert sorted(path.stem for path in SCRIPTS) == sorted(Scripts._fields), (
        "Name each script in Scripts, or delete it."
    )


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_header_keys_are_in_the_table(path: Path) -> None:
    """Each key that a header names is a key of `budgets/keys.py`."""
    named = re.findall(r"\[\d*(?:\.\.)?\] +(\w+) ", section(path, "KEYS"))

    unknown = set(named) - {layout.name for layout in LAYOUTS}
    assert named, f"List the KEYS in the header of {path.stem}."
    assert not unknown, f"Name {unknown} as budgets/keys.py does, or add it there."


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_numbered_keys_and_arguments_are_documented(path: Path) -> None:
    """No script reads a KEYS or ARGV place that its header does not list."""
    for array, title in (("KEYS", "KEYS"), ("ARGV", "ARGV")):
        used = {int(place) for place in re.findall(rf"\b{array}\[(\d+)\]", assembled(path))}
        listed = {int(place) for place in re.findall(r"^\D*\[(\d+)", section(path, title), re.M)}
        assert used <= listed, f"{array} {sorted(used - listed)} of {path.stem} is not documented."


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_statuses_are_documented(path: Path) -> None:
    """A script answers the status words of its header and no others; lua/README tells each."""
    written = set(ANSWER.findall(assembled(path)))
    readme = (ROOT / "lua" / "README.md").read_text(encoding="utf-8")
    documented = set(WORD.findall(section(path, "RETURNS"))) - {"RETURNS"}

    assert written, f"{path.stem} answers no status word."
    for word in written & documented | documented:
        assert f"`{word}`" in readme, f"{word} is missing in lua/README.md."
    unused = {word for word in documented if f"'{word}'" not in assembled(path)}
    assert not unused, f"{path.stem} never answers {unused}: take it out of the header."
    own = set(ANSWER.findall(path.read_text(encoding="utf-8").partition("]]")[2]))
    assert own <= documented, f"{own - documented} is missing in the header of {path.stem}."


def test_refusals_are_those_of_reserve() -> None:
    """Python knows exactly the words with which reserve and authenticate refuse."""
    documented = set(WORD.findall(section(ROOT / "lua" / "reserve.lua", "RETURNS")))
    answers = {"RETURNS", "DONE", "HELD", "IDEMPOTENT", "DENIED", "BUSY"}
    keys = set(WORD.findall(section(ROOT / "lua" / "authenticate.lua", "RETURNS"))) - {"RETURNS"}

    assert documented - answers == set(get_args(Refusal)), "Make Refusal equal to the header."
    assert keys == set(get_args(KeyWord)), "Make KeyWord equal to the header."


@pytest.mark.parametrize("path", [*SCRIPTS, *INCLUDES], ids=name)
def test_script_uses_nothing_forbidden(path: Path) -> None:
    """No lossy text of money, no swallowed error, no scan, no trimmed journal."""
    code = re.sub(r"--\[\[.*?\]\]", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    code = re.sub(r"--.*", "", code)

    found = [word for word in FORBIDDEN if word in code]
    assert not found, f"Do without {found}: it loses digits, hides an error, or never ends."
    assert re.search(r"^\s*(?!local )\w+ = function|^function ", code, re.M) is None, "Use local."


@pytest.mark.parametrize("path", INCLUDES, ids=name)
def test_include_defines_what_it_lists(path: Path) -> None:
    """The first line of an include lists exactly the functions that it defines."""
    text = path.read_text(encoding="utf-8")
    listed = re.findall(r"\w+", text.partition(":")[0].removeprefix("--"))

    assert sorted(listed) == sorted(re.findall(r"^local function (\w+)", text, re.M)), (
        "List in the first line what the include defines."
    )


@pytest.mark.parametrize("path", INCLUDES, ids=name)
def test_include_is_used(path: Path) -> None:
    """No include is left over."""
    users = [script for script in SCRIPTS if f'"{path.stem}"' in script.read_text(encoding="utf-8")]

    assert users, f"No script includes {path.stem}: delete it."
