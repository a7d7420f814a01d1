"""The store fixture of the script tests, for the scenario tables."""

from tests.lua.conftest import store

__all__ = ["store"]
