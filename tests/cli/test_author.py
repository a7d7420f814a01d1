"""A change is recorded under the actor that was named, else under the user of the system."""

import os
import pwd

import pytest

from gateway.cli.author import author
from gateway.registry.limits import Author


def test_named_actor_is_recorded() -> None:
    """What was typed counts."""
    assert author("ada", "why") == Author("ada", "why")


def test_system_user_is_not_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody becomes somebody else in the audit by setting a variable."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "mallory")

    assert author("", "why") == Author(pwd.getpwuid(os.getuid()).pw_name, "why")


def test_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that runs as a bare number can still change a limit."""
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)

    assert author("", "why").actor == "uid 4000000000"
