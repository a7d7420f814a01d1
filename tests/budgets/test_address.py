"""Addresses: what URLs are understood, and that no password ever shows."""

import ssl
from pathlib import Path

import pytest

from gateway.budgets.address import Address, read_address, tls_context
from gateway.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://cache", Address("cache", 6379)),
        ("redis://", Address("localhost", 6379)),
        ("redis://cache:7000/3", Address("cache", 7000, db=3)),
        ("redis://cache?db=4", Address("cache", 6379, db=4)),
        ("redis://[::1]:7000/", Address("::1", 7000)),
        ("redis://:p%40ss@cache/0", Address("cache", password="p@ss")),
        ("redis://bob:p%2Fw@cache", Address("cache", username="bob", password="p/w")),
        ("redis://cache?username=bob&password=pw", Address("cache", username="bob", password="pw")),
        ("rediss://cache", Address("cache", tls=True)),
        (
            "rediss://cache?ssl_cert_reqs=none&ssl_ca_certs=/etc/ca.pem",
            Address("cache", tls=True, certificate_check="none", ca_file="/etc/ca.pem"),
        ),
        (
            "rediss://cache?ssl_check_hostname=false&ssl_certfile=c.pem&ssl_keyfile=k.pem",
            Address(
                "cache",
                tls=True,
                check_hostname=False,
                certificate_file="c.pem",
                key_file="k.pem",
            ),
        ),
        ("unix:///run/redis.sock", Address(path="/run/redis.sock")),
        ("unix://bob:pw@/run/r.sock?db=2", Address("", 6379, "/run/r.sock", 2, "bob", "pw")),
    ],
)
def test_read_address_understands(url: str, address: Address) -> None:
    """Every form of a URL that redis-py knows is read as redis-py reads it."""
    assert read_address(url) == address


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "must start with redis://"),
        ("http://cache", "must start with redis://"),
        ("cache:6379", "must start with redis://"),
        ("redis+sentinel://a:26379/mymaster", "Sentinel or a Cluster"),
        ("rediss+cluster://a", "Sentinel or a Cluster"),
        ("redis://a:7000,b:7000", "Sentinel or a Cluster"),
        ("redis://cache/first", "number of a database"),
        ("redis://cache/-1", "number of a database"),
        ("redis://cache?db=x", "number of a database"),
        ("redis://cache:99999", "cannot be read"),
        (f"redis://{'a' * 64}", "cannot be read"),
        ("unix://relative.sock", "absolute path"),
        ("rediss://cache?ssl_cert_reqs=perhaps", "expected required, optional or none"),
        ("rediss://cache?ssl_ca_cert=x", "unknown option; expected only db, "),
    ],
)
def test_read_address_refuses_in_one_sentence(url: str, sentence: str) -> None:
    """What cannot be used is refused at start with a sentence that says what was expected."""
    with pytest.raises(ConfigError, match=sentence) as caught:
        read_address(url)

    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "url",
    [
        "redis://bob:hunter/2@cache",
        "redis://bob:hunter#2@cache:6379",
        "redis+sentinel://bob:hunter@a",
        "http://bob:hunter@cache",
        "redis://bob:hunter@a,b",
        "redis://bob:hunter@cache/x",
        "redis://bob:7?hunter=2@cache",
        "redis://[bob:hunter@cache",
    ],
)
def test_read_address_keeps_the_password_out_of_its_faults(url: str) -> None:
    """No message, and no exception chained to it, repeats a piece of the password."""
    with pytest.raises(ConfigError) as caught:
        read_address(url)

    assert "hunter" not in str(caught.value)
    assert caught.value.__context__ is None


def test_address_hides_the_password() -> None:
    """An address may be logged in any form."""
    address = read_address("rediss://bob:hunter2@cache:7000/1")

    assert "hunter2" not in repr(address) + str(address) + f"{address}"
    assert str(address) == "rediss://cache:7000/1"


def test_address_names_each_kind_of_server() -> None:
    """The short form tells a socket, a host and an IPv6 address apart."""
    assert str(read_address("unix:///run/r.sock?db=2")) == "unix:///run/r.sock?db=2"
    assert str(read_address("redis://[::1]")) == "redis://[::1]:6379/0"


def test_tls_context_checks_certificates_unless_told_otherwise() -> None:
    """TLS verifies certificate and host name by default, and exactly what was asked otherwise."""
    default = tls_context(read_address("rediss://cache"))
    none = tls_context(read_address("rediss://cache?ssl_cert_reqs=none"))
    loose = tls_context(read_address("rediss://cache?ssl_check_hostname=no"))

    assert tls_context(read_address("redis://cache")) is None
    assert default is not None
    assert (default.verify_mode, default.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert none is not None
    assert (none.verify_mode, none.check_hostname) == (ssl.CERT_NONE, False)
    assert loose is not None
    assert (loose.verify_mode, loose.check_hostname) == (ssl.CERT_REQUIRED, False)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
def test_tls_context_names_a_missing_file(tmp_path: Path, option: str) -> None:
    """A certificate file that cannot be read stops the start with a sentence."""
    address = read_address(f"rediss://cache?{option}={tmp_path}/absent.pem")

    with pytest.raises(ConfigError, match="TLS file"):
        tls_context(address)
