"""The connection over TLS: a relay with a certificate stands before a real server.

The embedded servers are built without TLS, so the relay ends it.
"""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.budgets.conftest import ECHO, Connect


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a self-signed certificate for ``localhost`` and its key."""
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(file), "-out", str(file.with_suffix(".crt"))]
    subprocess.run([*words, *names, *files], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + file.with_suffix(".crt").read_bytes())
    return file


@pytest.fixture
async def tls_port(certificate: Path, redis_url: str) -> AsyncIterator[int]:
    """Yield the port of a relay that ends TLS before the real server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    port = urlsplit(redis_url).port
    relays: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(relay(reader, writer))
        relays.add(task)
        task.add_done_callback(relays.discard)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        ways = [
            asyncio.ensure_future(_copy(reader, back)),
            asyncio.ensure_future(_copy(there, writer)),
        ]
        try:
            await asyncio.wait(ways)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    # A socket that outlives its event loop would be a warning in some later test.
    for task in relays:
        task.cancel()
    await asyncio.gather(*relays, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def test_connection_speaks_tls(connect: Connect, tls_port: int, certificate: Path) -> None:
    """With the authority's certificate a rediss:// address works like any other."""
    authority = certificate.with_suffix(".crt")

    connection = await connect(f"rediss://localhost:{tls_port}?ssl_ca_certs={authority}")

    assert connection.ready
    assert await connection.submit(ECHO, ["k"], ["v" * 100_000]) == [b"k", b"v" * 100_000]


@pytest.mark.parametrize("trust", ["ssl_ca_certs={0}", ""])
async def test_connection_refuses_a_certificate(
    connect: Connect, tls_port: int, certificate: Path, trust: str
) -> None:
    """Neither another host name nor an unknown authority is accepted."""
    host = "127.0.0.1" if trust else "localhost"
    options = trust.format(certificate.with_suffix(".crt"))

    connection = await connect(f"rediss://{host}:{tls_port}?{options}")

    assert not connection.connected
    assert "certificate verify failed" in connection.problem


async def test_connection_accepts_any_certificate_when_told_so(
    connect: Connect, tls_port: int
) -> None:
    """``ssl_cert_reqs=none`` encrypts without knowing who is there."""
    connection = await connect(f"rediss://127.0.0.1:{tls_port}?ssl_cert_reqs=none")

    assert connection.ready


async def test_connection_says_when_the_server_speaks_no_tls(
    connect: Connect, redis_url: str
) -> None:
    """TLS to a plain server fails with a problem, not with a hang."""
    connection = await connect(redis_url.replace("redis://", "rediss://"))

    assert not connection.connected
    assert "cannot be used" in connection.problem
