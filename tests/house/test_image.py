"""The image is built from files that are there, and runs as nobody in particular."""

import re
from fnmatch import fnmatch
from pathlib import PurePath
from typing import NamedTuple

import orjson
import pytest

from gateway.cli.dispatch import COMMANDS, PROGRAM
from gateway.settings import PREFIX, read_settings
from tests.house.sources import ROOT, lines, text


class Step(NamedTuple):
    """One instruction of the Dockerfile; ``stage`` counts its FROM lines."""

    stage: int
    word: str
    says: str


def dockerfile() -> list[Step]:
    """Return the steps of the Dockerfile, each on one line."""
    whole = re.sub(r"^#.*\n", "", text(ROOT / "Dockerfile"), flags=re.MULTILINE)
    steps, stage = [], 0
    for line in filter(None, whole.replace("\\\n", " ").splitlines()):
        word, _, says = line.partition(" ")
        stage += word == "FROM"
        steps.append(Step(stage, word, " ".join(says.split())))
    return steps


STEPS = dockerfile()
IMAGE = [step for step in STEPS if step.stage == STEPS[-1].stage]
SOURCES = [
    source
    for step in STEPS
    if step.word == "COPY" and "--from" not in step.says
    for source in step.says.split()[:-1]
]


def said(word: str) -> str:
    """Return what the last such instruction of the image says, which is the one that counts."""
    found = [step.says for step in IMAGE if step.word == word]
    assert found, f"The image needs {word}."
    return found[-1]


def environment() -> dict[str, str]:
    """Return the variables that the image sets."""
    return dict(pair.split("=", 1) for pair in said("ENV").split())


@pytest.mark.parametrize("source", SOURCES)
def test_copied_file_is_there(source: str) -> None:
    """Each file and folder that is copied exists, and .dockerignore lets it through."""
    verdict = True
    for pattern in lines(ROOT / ".dockerignore"):
        if pattern and fnmatch(source, pattern.lstrip("!")):
            verdict = pattern.startswith("!")

    assert (ROOT / source).exists(), f"The Dockerfile copies {source}, which is not there."
    assert verdict, f"Let {source} through in .dockerignore."


def test_wheel_can_be_built_in_the_image() -> None:
    """All that pyproject.toml reads or packs is copied before the wheel is built."""
    needed = {"pyproject.toml", "README.md", "LICENSE", "gateway", "workers", "lua"}

    assert needed <= set(SOURCES), f"COPY {needed - set(SOURCES)} before the wheel is built."


def test_image_runs_as_a_fixed_user_without_rights() -> None:
    """The user is a number above those of the system, so that a volume can be given to it."""
    user, _, group = said("USER").partition(":")

    assert user.isdigit(), "Name the user by its number: Kubernetes cannot see behind a name."
    assert int(user) >= 1000, "Run as a user that is not the system's."
    assert group.isdigit(), "Name the group by its number too."
    assert int(group) >= 1000, "Root's group may write where we need not."


def test_image_asks_for_its_health() -> None:
    """The container is healthy by our own command, which needs no curl."""
    program, command = orjson.loads(said("HEALTHCHECK").partition("CMD ")[2])

    assert (program, command) == (PROGRAM, "healthcheck"), "Ask budget-gateway healthcheck."


def test_image_runs_commands_that_exist() -> None:
    """What the image starts, and what it asks for its health, are commands of the program."""
    _, health = orjson.loads(said("HEALTHCHECK").partition("CMD ")[2])
    (command,) = orjson.loads(said("CMD"))

    assert orjson.loads(said("ENTRYPOINT")) == [PROGRAM], "Start the program by its name."
    assert {command, health} <= COMMANDS.keys(), "Name a command of dispatch.COMMANDS."


def test_image_sets_known_settings() -> None:
    """Each GATEWAY_ variable of the image is a setting with a value that is accepted."""
    variables = {key: value for key, value in environment().items() if key.startswith(PREFIX)}
    settings, warnings = read_settings(variables)

    assert warnings == [], "Use a name of gateway/settings.py."
    assert (settings.host, settings.ops_host) == ("0.0.0.0", "0.0.0.0"), "Listen on all of it."


def test_image_keeps_what_it_could_not_settle() -> None:
    """The spool is a volume: it is money, and it outlives the container."""
    spool = environment()[f"{PREFIX}SPOOL_DIR"]

    assert spool in orjson.loads(said("VOLUME")), "Make GATEWAY_SPOOL_DIR a VOLUME."
    assert PurePath(spool).is_absolute(), "A relative folder depends on who starts it."


def test_image_shows_the_ports_of_serve() -> None:
    """The image exposes the port of the proxy and the ops port."""
    assert said("EXPOSE").split() == ["8080", "9464"], "Expose 8080 and 9464."


def test_image_is_stopped_as_it_drains() -> None:
    """A stop sends the signal upon which open calls are finished and settled."""
    assert said("STOPSIGNAL") == "SIGTERM", "serve drains on SIGTERM."


def test_image_has_no_embedded_servers() -> None:
    """The servers for laptops and tests are not installed."""
    installs = [step.says for step in STEPS if step.word == "RUN" and "pip install" in step.says]

    assert installs
    assert not [says for says in installs if "[" in says], "Install the wheel without its extras."
