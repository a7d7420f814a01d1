"""A database URL that cannot be used is told apart from a database that is away."""

import pytest

from gateway.errors import ConfigError, LedgerUnavailable
from gateway.ledger.pool import open_pool


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql://u:s3cret@127.0.0.1:1/db", "start with postgresql://"),
        ("u:s3cret@127.0.0.1/db", "start with postgresql://"),
        ("postgresql://u:s3cret@127.0.0.1:1/db?sslmode=wat", "a known sslmode"),
        ("postgresql://u:s3cret@127.0.0.1:port/db", "a port up to 65535"),
        ("postgresql://u:s3cret@127.0.0.1:65536/db", "a port up to 65535"),
        ("postgresql://u:s3cret/x@127.0.0.1:1/db", "percent-encoded"),
        ("postgresql://u:s3cret[@127.0.0.1:1/db", "percent-encoded"),
    ],
)
async def test_url_that_cannot_be_used_is_one_sentence(url: str, expected: str) -> None:
    """It names the variable and what was expected, and never shows the password."""
    with pytest.raises(ConfigError, match=f"^GATEWAY_DATABASE_URL .*{expected}") as raised:
        await open_pool(url)

    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


async def test_database_that_does_not_answer_is_unavailable() -> None:
    """A port where nobody listens may be right tomorrow: that is no wrong setting."""
    with pytest.raises(LedgerUnavailable, match="cannot be reached"):
        await open_pool("postgresql://u:s3cret@127.0.0.1:1/db")
