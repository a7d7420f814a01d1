"""Credentials: the header values that an operator configured for an upstream."""

import re
from collections.abc import Mapping
from pathlib import Path

from gateway.proxy.head import Header

_ENVIRONMENT = "env:"
_FILE = "file:"
_PREFIX = "GATEWAY_CREDENTIAL_"
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class Credentials:
    """Where header values come from: literals, ``env:GATEWAY_CREDENTIAL_*``, ``file:``.

    A file lies in one folder. Nothing else of the environment or of the disk can leave through
    an agent's description.
    """

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._environ = environ
        self._folder = folder

    def headers(self, configured: Mapping[str, str]) -> tuple[Header, ...]:
        """Return the configured headers with their values, names in lower case.

        Raises:
            ValueError: a name, a source or a value is not usable; the sentence names the header,
                never a value.
        """
        return tuple(self._header(name, source) for name, source in configured.items())

    def _header(self, name: str, source: str) -> Header:
        value = self._value(name, source)
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"headers: {name} is not a header with a usable value.")
        return name.lower().encode("ascii"), value.encode("latin-1")

    def _value(self, name: str, source: str) -> str:
        if source.startswith(_ENVIRONMENT):
            variable = source.removeprefix(_ENVIRONMENT)
            if not variable.startswith(_PREFIX) or variable not in self._environ:
                raise ValueError(f"headers: {name} needs {variable}, a set {_PREFIX}* variable.")
            return self._environ[variable]
        if not source.startswith(_FILE):
            return source
        return self._text(name, source.removeprefix(_FILE))

    def _text(self, name: str, relative: str) -> str:
        folder = self._folder.resolve()
        path = (folder / relative).resolve()
        # Resolved first, so that neither dots nor a link lead out of the folder.
        if not path.is_relative_to(folder):
            raise ValueError(f"headers: {name} names a file outside the credentials folder.")
        try:
            return path.read_text(encoding="latin-1").strip()
        except OSError as error:
            raise ValueError(f"headers: {name} names a file that cannot be read.") from error
