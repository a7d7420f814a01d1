"""A table that is not true, or that engines take differently, fails where it does, and says so."""

import pytest

from gateway.budgets.changes import Credit
from tests.lua.store import NOON, ORG, ms
from tests.model import Books
from tests.scenario import KINDS, play
from tests.scenarios.answers import tells
from tests.scenarios.engine import Engine
from tests.scenarios.table import read_table

TABLE = """
budget  org.month 100
reserve r1 for researcher 25   HELD
settle  r1 at 18               DONE  # it was never settled before
"""


async def failure(table: str, one: Engine, other: Engine) -> str:
    """Return the message with which a table fails."""
    with pytest.raises(AssertionError) as caught:
        await play(table, {"one": one, "other": other}, ms(NOON))
    return str(caught.value)


async def test_wrong_word_shows_the_line_and_every_answer() -> None:
    """What the table says, and what each engine said instead, stand below the line as written."""
    message = await failure(TABLE, Books(KINDS, ms(NOON)), Books(KINDS, ms(NOON)))

    assert message == (
        "The answers differ at line 4:\n"
        "settle  r1 at 18               DONE  # it was never settled before\n"
        "    the table  DONE\n"
        "    one        SETTLED cost 18\n"
        "    other      SETTLED cost 18"
    )


async def test_engine_that_answers_otherwise_fails_a_true_table() -> None:
    """One engine that says what the table says does not excuse another that does not."""
    soft = Books(KINDS, ms(NOON))
    soft.limit("org.month.mode", "soft")
    table = "budget org.month 10\nreserve r1 for researcher 11   DENIED"

    message = await failure(table, Books(KINDS, ms(NOON)), soft)

    assert "\n    one        DENIED org.month limit 10 " in message
    assert "\n    other      HELD org.month available -1 " in message


async def test_engines_must_agree_on_what_the_table_does_not_tell() -> None:
    """The same word with other numbers fails, though the table tells only the word."""
    credited = Books(KINDS, ms(NOON))
    credited.credit(Credit("C1", ORG, "org", "total", "", 1))
    table = "balance org.total  held 0"

    message = await failure(table, Books(KINDS, ms(NOON)), credited)

    assert message.startswith("The answers differ at line 1:")
    assert "\n    other      spent 0 held 0 credit 0.000001" in message


async def test_counters_that_differ_fail_at_the_first_line() -> None:
    """Books that no line asks for are compared all the same."""
    credited = Books(KINDS, ms(NOON))
    credited.credit(Credit("C1", ORG, "agent.writer", "total", "", 1))

    message = await failure("tick 1s", Books(KINDS, ms(NOON)), credited)

    assert message == (
        "The books differ after line 1:\n"
        "tick 1s\n"
        "    one    \n"
        "    other  total agent.writer spent 0 held 0 credit 1"
    )


async def test_true_table_passes() -> None:
    """A table is played to its end where all agree with it."""
    table = TABLE.replace("DONE ", "SETTLED cost 18 ")

    await play(table, {"one": Books(KINDS, ms(NOON)), "other": Books(KINDS, ms(NOON))}, ms(NOON))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("resrve r1 for researcher 5  HELD", "expected one of budget, limit, tick, reserve"),
        ("reserve r1 researcher 5  HELD", "expected one of budget, limit, tick, reserve"),
        ("settle r1 at 5", "settle takes an answer"),
        ("tick 5s OK", "tick takes no answer"),
    ],
)
def test_line_that_is_none_is_shown(line: str, problem: str) -> None:
    """A misspelt line, or one without its answer, is refused and shown, never skipped."""
    with pytest.raises(ValueError, match=problem) as caught:
        read_table(f"# a comment\n\n{line}")

    assert str(caught.value).startswith(f"Line 3 is {line!r}; ")


@pytest.mark.parametrize("line", ["reserve r1 for a 1,5  HELD", "tick soon"])
async def test_word_that_is_no_number_is_told(line: str) -> None:
    """An amount or a duration that cannot be read is not guessed."""
    with pytest.raises(ValueError, match="expected"):
        await play(line, {"one": Books(KINDS, ms(NOON))}, ms(NOON))


@pytest.mark.parametrize(
    ("expected", "answer", "is_told"),
    [
        ("BUSY", "BUSY org.day available 15", True),
        ("BUSY org.day", "BUSY org.day available 15", True),
        ("BUSY available 15", "BUSY org.day available 15", True),
        ("held 0", "spent 18 held 0 credit 0", True),
        ("held 0 spent 18", "spent 18 held 0 credit 0", True),
        ("BUSY", "DENIED org.day available 15", False),
        ("BUSY org.month", "BUSY org.day available 15", False),
        ("BUSY available 1", "BUSY org.day available 15", False),
        ("spent 0", "spent 18 held 0 credit 0", False),
        ("warns org.day", "HELD org.day available 15", False),
        ("HELD HELD", "HELD", False),
        ("...", "DENIED org.day available 15", True),
    ],
)
def test_answer_may_be_told_in_part(expected: str, answer: str, is_told: bool) -> None:
    """The first words and any pairs; a number counts only under its own name."""
    assert tells(expected, answer) is is_told
