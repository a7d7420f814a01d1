"""The statements of the ledger, one per file."""

from importlib.resources import files


def statement(name: str) -> str:
    """Return a statement by the name of its file."""
    return files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
