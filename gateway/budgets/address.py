"""The address of the one Redis that holds the budgets."""

import ssl
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from gateway.errors import ConfigError

_SCHEMES = ("redis", "rediss", "unix")
_PORT = 6379
_OPTIONS = (
    "db",
    "username",
    "password",
    "ssl_cert_reqs",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_check_hostname",
)
CertificateCheck = Literal["required", "optional", "none"]
_CHECKS: dict[str, CertificateCheck] = {
    "required": "required",
    "optional": "optional",
    "none": "none",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis is and how to enter; ``path`` is set for a unix socket only.

    The password is in no representation, so an address may be logged.
    """

    host: str = ""
    port: int = _PORT
    path: str = ""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    certificate_check: CertificateCheck = "required"
    check_hostname: bool = True
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""

    def __str__(self) -> str:
        """Name the server without the password."""
        if self.path:
            return f"unix://{self.path}?db={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.db}"


def read_address(url: str) -> Address:
    """Return what a ``redis://``, ``rediss://`` or ``unix://`` URL says, as redis-py reads it.

    One difference: the certificate's host name is checked unless ``ssl_check_hostname=false``.

    Raises:
        ConfigError: the URL cannot be used; the sentence never contains the password.
    """
    parts, host, port = _split(url)
    options = _options(parts)
    return Address(
        host=host,
        port=port,
        path=unquote(parts.path) if parts.scheme == "unix" else "",
        db=_db(parts, options),
        username=options.get("username") or unquote(parts.username or ""),
        password=options.get("password") or unquote(parts.password or ""),
        tls=parts.scheme == "rediss",
        certificate_check=_certificate_check(options.get("ssl_cert_reqs", "required")),
        check_hostname=_is_true(options.get("ssl_check_hostname", "true")),
        ca_file=options.get("ssl_ca_certs", ""),
        certificate_file=options.get("ssl_certfile", ""),
        key_file=options.get("ssl_keyfile", ""),
    )


def tls_context(address: Address) -> ssl.SSLContext | None:
    """Return what the connection must use for TLS, or None where the address has none.

    Raises:
        ConfigError: a certificate file cannot be read.
    """
    if not address.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=address.ca_file or None)
        if address.certificate_file:
            context.load_cert_chain(address.certificate_file, address.key_file or None)
    except OSError as error:
        raise ConfigError(f"A TLS file of {address} cannot be used: {error}.") from error
    context.check_hostname = address.check_hostname and address.certificate_check == "required"
    context.verify_mode = {
        "required": ssl.CERT_REQUIRED,
        "optional": ssl.CERT_OPTIONAL,
        "none": ssl.CERT_NONE,
    }[address.certificate_check]
    return context


def _split(url: str) -> tuple[SplitResult, str, int]:
    # No message repeats the URL and none is chained: what cannot be read may be a piece of a
    # password that was not percent-encoded.
    parts = _parts(url)
    if parts and ("sentinel" in parts.scheme or "cluster" in parts.scheme or "," in parts.netloc):
        raise ConfigError(
            "GATEWAY_REDIS_URL names a Sentinel or a Cluster, which is not supported yet: "
            "name one Redis with redis://, rediss:// or unix://."
        )
    host_port = _host_port(parts) if parts else None
    if parts is None or host_port is None:
        raise ConfigError(
            "GATEWAY_REDIS_URL cannot be read: percent-encode special characters of the password."
        )
    if parts.scheme not in _SCHEMES:
        raise ConfigError("GATEWAY_REDIS_URL must start with redis://, rediss:// or unix://.")
    if parts.scheme == "unix" and not parts.path.startswith("/"):
        raise ConfigError("GATEWAY_REDIS_URL must name an absolute path after unix://.")
    return (parts, "", _PORT) if parts.scheme == "unix" else (parts, *host_port)


def _parts(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _host_port(parts: SplitResult) -> tuple[str, int] | None:
    try:
        host, port = parts.hostname or "localhost", parts.port or _PORT
        host.encode("idna")
    except ValueError:
        return None
    return host, port


def _options(parts: SplitResult) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not options.keys() <= set(_OPTIONS):
        raise ConfigError(
            f"GATEWAY_REDIS_URL has an unknown option; expected only {', '.join(_OPTIONS)}."
        )
    return options


def _db(parts: SplitResult, options: dict[str, str]) -> int:
    text = options.get("db") or ("" if parts.scheme == "unix" else parts.path.strip("/")) or "0"
    if not (text.isascii() and text.isdigit()):
        raise ConfigError("GATEWAY_REDIS_URL must end in the number of a database, such as /0.")
    return int(text)


def _certificate_check(text: str) -> CertificateCheck:
    check = _CHECKS.get(text)
    if check is None:
        raise ConfigError(
            f"ssl_cert_reqs in GATEWAY_REDIS_URL is {text!r}; expected required, optional or none."
        )
    return check


def _is_true(text: str) -> bool:
    return text.lower() not in ("0", "f", "false", "n", "no")
