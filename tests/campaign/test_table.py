"""The table in the README is one that the campaign itself has made."""

from collections import Counter

import pytest

from tests.campaign.books import Books
from tests.campaign.faults import FAULTS, LOSSES
from tests.campaign.play import Plan, Played
from tests.campaign.table import BEGIN, COLUMNS, END, columns_of, put, table
from tests.house.sources import ROOT, text

README = text(ROOT / "README.md")
PLAYED = Played(
    Plan(7, 3), 12.3, Counter({"kill_redis": 2, "fill_disk": 1}), 0.8, Books(9, 8, 8, 7, 1, ["x"])
)


def test_readme_has_the_columns_of_the_code() -> None:
    """A column that is new, renamed or gone is played again: make campaign FAULTS=60 README=1."""
    assert columns_of(README) == COLUMNS


def test_readme_tells_of_every_fault() -> None:
    """The run that the README shows has struck with every fault that there is."""
    shown = README.partition(BEGIN)[2].partition(END)[0]

    assert [fault for fault in [*FAULTS, *LOSSES] if f"{fault} " not in shown] == []


def test_table_tells_what_was_played() -> None:
    """One row, in the order of the columns, and what has struck how often."""
    lines = table(PLAYED).splitlines()

    assert lines[2] == "| 7 | 3 | 9 | 8 | 8 | 7 | 1 | 0.8 | 12 | 1 |"
    assert lines[4] == "fill_disk 1, kill_redis 2."


def test_table_replaces_what_was_there() -> None:
    """Only what stands between the marks, however often."""
    once = put(f"a\n{BEGIN}\nold\n{END}\nb\n", "new\n")

    assert once == put(once, "new\n") == f"a\n{BEGIN}\nnew\n{END}\nb\n"


@pytest.mark.parametrize("readme", ["", BEGIN, f"{END}\n{BEGIN}\n"])
def test_readme_without_its_marks_is_refused(readme: str) -> None:
    """Nothing is written where nobody said that it may be."""
    with pytest.raises(ValueError, match="campaign"):
        put(readme, "new\n")
