"""What people set, see or run is told in the README of its room."""

import ast
import re
from collections.abc import Iterator

import pytest

from gateway.budgets.keys import LAYOUTS
from gateway.cli.dispatch import COMMANDS
from gateway.errors import GatewayError
from gateway.proxy.problem import KINDS
from gateway.settings import PREFIX, Settings
from tests.house.sources import PRODUCT, ROOT, readme, set_as_code, text, tree
from workers.main import timetable

WORKERS = ROOT / "workers"
JOBS = sorted(path.stem for path in WORKERS.glob("*.py") if path.stem not in ("__init__", "main"))
METRIC_TYPES = {"Counter", "Gauge", "Histogram", "Summary"}


def metrics() -> Iterator[tuple[str, str]]:
    """Yield each metric as Prometheus shows it, without our prefix, and the room that tells it."""
    for path in PRODUCT:
        room = "workers" if WORKERS in path.parents else "gateway/proxy"
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and _called(node) in METRIC_TYPES and node.args:
                # Its first text, also where a function puts the prefix before it.
                inner = (part for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant))
                family = str(next(inner).value).removeprefix("budget_gateway_")
                yield f"{family}_total" if _called(node) == "Counter" else family, room


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def errors(root: type[GatewayError]) -> list[type[GatewayError]]:
    """Return an error class and all below it."""
    return [root, *(error for child in root.__subclasses__() for error in errors(child))]


def has_word(word: str, markdown: str) -> bool:
    """Whether a README sets this word as code."""
    return re.search(rf"(?<![\w-]){word}(?![\w-])", set_as_code(markdown)) is not None


@pytest.mark.parametrize("field", Settings.model_fields)
def test_setting_has_its_row(field: str) -> None:
    """README has a row for each setting: its name, its default, and its own description."""
    setting = Settings.model_fields[field]
    default = "" if setting.default in ("", None) else f"`{setting.default}`"
    row = f"| `{PREFIX}{field.upper()}` | {default} | {setting.description} |"

    assert row in text(ROOT / "README.md"), f"Put this row into README.md: {row}"


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.pattern)
def test_key_is_documented(layout: tuple[str, str]) -> None:
    """Whoever reads a live Redis finds each key by its pattern."""
    pattern = layout[1]

    assert f"`{pattern}`" in readme("lua"), f"Say in lua/README.md what `{pattern}` holds."


@pytest.mark.parametrize("word", KINDS)
def test_error_word_is_documented(word: str) -> None:
    """A caller who meets an error word finds what it means and what to do."""
    assert has_word(word, readme("gateway/proxy")), f"Tell {word} in gateway/proxy/README.md."


@pytest.mark.parametrize(("metric", "room"), sorted(metrics()))
def test_metric_is_documented(metric: str, room: str) -> None:
    """Each metric has a row that says what it tells, under the name that Prometheus shows."""
    told = re.search(rf"(?<![a-z_])(?:budget_gateway_)?{metric}(?![a-z_])", readme(room))

    assert told, f"Say in {room}/README.md what {metric} tells."


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_documented(command: str) -> None:
    """Each command stands in the drawing of the command line."""
    assert has_word(command, readme("gateway/cli")), f"Draw {command} in gateway/cli/README.md."


@pytest.mark.parametrize("job", [*JOBS, *(job.coroutine.__qualname__ for job in timetable())])
def test_job_is_documented(job: str) -> None:
    """Each loop of the worker and each row of its timetable says when it runs and for what."""
    assert has_word(job, readme("workers")), f"Say in workers/README.md what {job} does, and when."


@pytest.mark.parametrize("error", errors(GatewayError), ids=lambda error: error.__name__)
def test_error_class_is_drawn(error: type[GatewayError]) -> None:
    """The drawing in errors.py names every class."""
    drawing = str(ast.get_docstring(tree(ROOT / "gateway" / "errors.py")))

    assert re.search(rf"\b{error.__name__}\b", drawing), "Draw it in the docstring of errors.py."
