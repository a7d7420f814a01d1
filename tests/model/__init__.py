"""The contract in pure Python: the books of an org, and every script call to the byte."""

from tests.model.books import Books

__all__ = ["Books"]
