"""When a server may be believed: one that was started again may have forgotten something."""

from collections.abc import Mapping

import pytest

from gateway.budgets.doubt import LEARN_S, Doubt

_RUN = b"run-2"
_MARKER = {b"ready": b"1", b"epoch": b"1"}
_OTHER = {**_MARKER, b"life": b"run-1"}


@pytest.mark.parametrize(
    ("run_id", "marker"),
    [
        (_RUN, {**_MARKER, b"life": _RUN}),
        (_RUN, _MARKER),
        (b"", _OTHER),
        (b"", {**_OTHER, b"lost": b""}),
        (_RUN, {**_MARKER, b"life": _RUN, b"lost": b"run-1"}),
    ],
    ids=["compared", "marker without life", "no run id", "no run id, no loss", "loss before"],
)
def test_server_is_believed(run_id: bytes, marker: Mapping[bytes, bytes]) -> None:
    """At the first look already."""
    assert Doubt(run_id).look(marker, 5.0) == ""


def test_server_that_was_started_again_is_believed_after_a_moment() -> None:
    """Where no worker is there, it must not stay closed for ever; and then it stays open."""
    doubt = Doubt(_RUN)

    assert doubt.look(_OTHER, 5.0)
    assert doubt.look(_OTHER, 5.0 + LEARN_S - 0.1)
    assert doubt.look(_OTHER, 5.0 + LEARN_S) == ""
    assert doubt.look({**_OTHER, b"checking": b"1"}, 5.1 + LEARN_S) == ""


def test_server_is_closed_while_a_worker_compares() -> None:
    """Each sign of the worker is a moment more; its word opens at once."""
    doubt = Doubt(_RUN)

    for number in range(20):
        assert doubt.look({**_OTHER, b"checking": b"%d" % number}, number * LEARN_S * 0.9)
    assert doubt.look({**_MARKER, b"life": _RUN}, 20 * LEARN_S * 0.9) == ""


def test_server_that_has_lost_writes_is_opened_by_a_worker_only() -> None:
    """However long it takes, and also where it was believed before."""
    doubt = Doubt(_RUN)
    lost = {**_OTHER, b"lost": _RUN}
    assert doubt.look(_OTHER, 0.0)
    assert doubt.look(_OTHER, LEARN_S) == ""

    assert doubt.look(lost, LEARN_S + 1.0)
    assert doubt.look(lost, 1000.0)
    assert doubt.look({**_MARKER, b"life": _RUN}, 1001.0) == ""


def test_rebuilt_server_is_closed_for_a_moment() -> None:
    """On the same connection too: the ledger knows no holds, and their gateways must come first."""
    doubt = Doubt(_RUN)
    assert doubt.look({**_MARKER, b"life": _RUN}, 5.0) == ""
    rebuilt = {**_MARKER, b"epoch": b"2", b"life": b""}

    assert doubt.look(rebuilt, 6.0)
    assert doubt.look(rebuilt, 6.0 + LEARN_S) == ""
