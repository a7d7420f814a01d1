"""The Lua scripts: read from ``lua/``, put together with their includes, named by their SHA.

The first line of a script, ``#!lua`` with its flags, exists since Redis 7.0. A script therefore
has two sources: with that line and without it, for older servers and for fakeredis.
"""

import hashlib
import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

_INCLUDE = re.compile(r'^ *--- @include((?: "[a-z_]+")+)\n', re.MULTILINE)
_SHEBANG = re.compile(r"\A#!lua[^\n]*\n")


class Source(NamedTuple):
    """A complete script text and the SHA-1 that EVALSHA knows it by."""

    text: str
    sha: str


# The place of a source in a script: with the line of flags, without it.
Form = Literal[1, 2]


class Script(NamedTuple):
    """One verb, with the line of flags and without it."""

    name: str
    flagged: Source
    plain: Source


class Scripts(NamedTuple):
    """Every verb of the contract."""

    reserve: Script
    settle: Script
    release: Script
    resume: Script
    extend: Script
    expire: Script
    credit: Script
    correct: Script
    repair: Script
    inspect: Script
    authenticate: Script


def script_dir() -> Path:
    """Return the folder of the scripts: inside the wheel, or at the root of a checkout."""
    packaged = Path(str(files("gateway"))) / "lua"
    return packaged if packaged.is_dir() else packaged.parent.parent / "lua"


def load_scripts(includes: Path | None = None) -> Scripts:
    """Return all scripts; ``includes`` names another folder to look for includes first.

    Tests pass a folder whose ``clock.lua`` reads a settable time.
    """
    root = script_dir()
    folders = [folder for folder in (includes, root / "include") if folder is not None]
    return Scripts(*(_load(root / f"{name}.lua", folders) for name in Scripts._fields))


def _load(path: Path, folders: list[Path]) -> Script:
    text = _INCLUDE.sub(lambda match: _include(match[1], folders), path.read_text(encoding="utf-8"))
    # The blank line keeps the line numbers of Redis's messages the same in both forms.
    return Script(path.stem, _source(text), _source(_SHEBANG.sub("\n", text)))


def _include(names: str, folders: list[Path]) -> str:
    return "".join(_text(name.strip('"'), folders) for name in names.split())


def _text(name: str, folders: list[Path]) -> str:
    path = next(path for folder in folders if (path := folder / f"{name}.lua").is_file())
    return path.read_text(encoding="utf-8")


def _source(text: str) -> Source:
    return Source(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def main(names: list[str]) -> None:
    """Print assembled scripts with line numbers, because Redis names ``user_script:47``."""
    scripts = load_scripts()
    for name in names:
        script: Script = getattr(scripts, name)
        for number, line in enumerate(script.flagged.text.splitlines(), 1):
            sys.stdout.write(f"{number:4} {line}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
