"""Credentials: configured header values leave, nothing else of the machine does."""

from pathlib import Path

import pytest

from gateway.proxy.credentials import Credentials

_ENVIRON = {"GATEWAY_CREDENTIAL_OPENAI": "Bearer sk-1", "STRIPE_API_KEY": "sk_live"}


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    """Return credentials with one file in the folder and one beside it."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "openai").write_text("Bearer sk-2\n", encoding="utf-8")
    (tmp_path / "secret").write_text("no", encoding="utf-8")
    (folder / "link").symlink_to(tmp_path / "secret")
    return Credentials(_ENVIRON, folder)


def test_sources_are_resolved(credentials: Credentials) -> None:
    """A literal, a credential variable and a file of the folder become header values."""
    configured = {
        "X-Literal": "plain",
        "Authorization": "env:GATEWAY_CREDENTIAL_OPENAI",
        "x-file": "file:openai",
    }

    assert credentials.headers(configured) == (
        (b"x-literal", b"plain"),
        (b"authorization", b"Bearer sk-1"),
        (b"x-file", b"Bearer sk-2"),
    )


@pytest.mark.parametrize(
    "source",
    [
        "env:STRIPE_API_KEY",
        "env:GATEWAY_CREDENTIAL_MISSING",
        "file:../secret",
        "file:link",
        "file:/etc/hostname",
        "file:missing",
        "file:.",
        "two\r\nlines",
    ],
)
def test_other_sources_are_refused(credentials: Credentials, source: str) -> None:
    """Other variables, paths out of the folder and line breaks are refused by header name."""
    with pytest.raises(ValueError, match="x-key"):
        credentials.headers({"x-key": source})


@pytest.mark.parametrize("name", ["", "x y", "x:", "x\r\n", "é"])
def test_header_names_are_checked(credentials: Credentials, name: str) -> None:
    """A header name that would break the request is refused."""
    with pytest.raises(ValueError, match="headers"):
        credentials.headers({name: "1"})
