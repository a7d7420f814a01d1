"""The settings of a command: the environment, over what ``dev`` wrote into the working folder."""

import os
from collections.abc import Mapping
from pathlib import Path

from gateway.cli.output import complain
from gateway.errors import ConfigError
from gateway.settings import PREFIX, Settings, read_settings

FOLDER = Path(".budget-gateway")
FILE = FOLDER / "env"


def load(*needed: str) -> Settings:
    """Return the settings; an unknown ``GATEWAY_*`` name is a warning on standard error.

    ``needed`` are fields that this command cannot do without, such as ``redis_url``.

    Raises:
        ConfigError: a value is wrong, or what is needed is not set; one sentence names it.
    """
    settings, warnings = read_settings(variables())
    for warning in warnings:
        complain(warning)
    require(settings, *needed)
    return settings


def require(settings: Settings, *needed: str) -> None:
    """Refuse settings that lack one of these fields.

    Raises:
        ConfigError: a field is empty; the sentence says where it may come from.
    """
    for name in needed:
        if not getattr(settings, name):
            raise ConfigError(
                f"{PREFIX}{name.upper()} is not set: set it, or run `budget-gateway dev` in this "
                f"folder, which writes it to {FILE}."
            )


def variables(file: Path | None = FILE) -> dict[str, str]:
    """Return the environment over the variables of a file; a missing file has none.

    Raises:
        ConfigError: the file cannot be read, or a line of it is no ``NAME=value``.
    """
    return {**(read_file(file) if file else {}), **os.environ}


def read_file(file: Path) -> dict[str, str]:
    """Return the variables of a file of ``NAME=value`` lines, as ``docker --env-file`` reads it.

    Raises:
        ConfigError: the file cannot be read, or a line of it is no ``NAME=value``.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}.") from error
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"Line {number} of {file} is not NAME=value.")
        found[name] = value
    return found


def write_file(values: Mapping[str, str]) -> None:
    """Write what the commands of the working folder shall use where the environment is silent."""
    head = "# Written by `budget-gateway dev` at each start; the environment wins over it.\n"
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    write_private(FILE, head + "".join(f"{name}={value}\n" for name, value in values.items()))


def write_private(file: Path, text: str) -> None:
    """Replace a file as a whole by one that only this user may read."""
    unfinished = file.with_name(f"{file.name}.new")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(file)
