"""Agents: how the service behind one is reached, priced and metered."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

from gateway.domain.money import microcents_from_cents
from gateway.domain.origin import origin_of

Dialect = Literal["auto", "openai", "anthropic", "generic"]
PriceMode = Literal["flat", "tokens", "reported"]
OnUnpriced = Literal["deny", "flat", "allow"]
OnOutgrow = Literal["cut", "overrun"]

OUTPUT_TOKENS_DEFAULT = 4096
_OUTPUT_TOKENS_MAX = 10_000_000
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_LINE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_VARIABLE = re.compile(r"env:GATEWAY_CREDENTIAL_[A-Za-z0-9_]+")
# The gateway says itself where a request goes and where it ends.
_FRAMING = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


@dataclass(frozen=True, slots=True)
class Pricing:
    """How a call of an agent is priced; amounts that were not set are None."""

    mode: PriceMode
    flat_microcents: int | None
    ceiling_microcents: int | None
    output_default: int


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to connect, to the head of the answer, and between two chunks of it."""

    connect_s: float = 5.0
    read_s: float = 610.0
    idle_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Agent:
    """The description of an agent, as the registry keeps it."""

    upstream: str
    pricing: Pricing
    dialect: Dialect = "auto"
    on_unpriced: OnUnpriced = "deny"
    charge_errors: bool = False
    on_outgrow: OnOutgrow = "overrun"
    headers: Mapping[str, str] = field(default_factory=dict)
    timeouts: Timeouts = Timeouts()


_MEMBERS = (
    "upstream",
    "dialect",
    "price",
    "on_unpriced",
    "charge_errors",
    "on_outgrow",
    "headers",
    "timeouts",
)


def read_agent(members: Mapping[str, object]) -> Agent:
    """Return the agent that a JSON object or a registry file describes.

    Raises:
        ValueError: a member is missing, unknown or malformed; the message names it and what was
            expected.
    """
    _refuse_unknown(members, _MEMBERS, "")
    pricing = _pricing(_table(members, "price"))
    on_unpriced = _choice(members, "on_unpriced", get_args(OnUnpriced), "deny")
    if on_unpriced == "flat" and pricing.flat_microcents is None:
        raise ValueError("price.cents is missing; on_unpriced flat needs it.")
    charge_errors = members.get("charge_errors", False)
    if not isinstance(charge_errors, bool):
        raise ValueError(f"charge_errors is {charge_errors!r}; expected true or false.")
    return Agent(
        _upstream(members.get("upstream")),
        pricing,
        cast(Dialect, _choice(members, "dialect", get_args(Dialect), "auto")),
        cast(OnUnpriced, on_unpriced),
        charge_errors,
        cast(OnOutgrow, _choice(members, "on_outgrow", get_args(OnOutgrow), "overrun")),
        _headers(_table(members, "headers")),
        _timeouts(_table(members, "timeouts")),
    )


def _upstream(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"upstream is {value!r}; expected http:// or https://, a host and a path.")
    origin_of(value)
    return value.rstrip("/")


def _pricing(price: Mapping[str, object]) -> Pricing:
    _refuse_unknown(price, ("mode", "cents", "ceiling_cents", "output_default"), "price.")
    mode = _choice(price, "mode", get_args(PriceMode), None, "price.")
    flat, ceiling = _cents(price, "cents"), _cents(price, "ceiling_cents")
    if mode == "flat" and flat is None:
        raise ValueError("price.cents is missing; a flat price needs it.")
    if mode == "reported" and ceiling is None:
        raise ValueError("price.ceiling_cents is missing; a reported price needs it.")
    output_default = price.get("output_default", OUTPUT_TOKENS_DEFAULT)
    if type(output_default) is not int or not 0 < output_default <= _OUTPUT_TOKENS_MAX:
        raise ValueError(
            f"price.output_default is {output_default!r}; expected tokens from 1 to 10000000."
        )
    return Pricing(cast(PriceMode, mode), flat, ceiling, output_default)


def _cents(price: Mapping[str, object], name: str) -> int | None:
    value = price.get(name)
    if value is None:
        return None
    # Text or whole numbers only: a JSON decimal has been rounded before we see it.
    text = str(value) if type(value) is int else value
    amount = microcents_from_cents(text) if isinstance(text, str) else None
    if amount is None:
        raise ValueError(f"price.{name} is {value!r}; expected cents as text, such as '2.5'.")
    return amount


def _headers(headers: Mapping[str, object]) -> dict[str, str]:
    read = {}
    for header, source in headers.items():
        name = header.lower()
        if not _HEADER.fullmatch(name) or name in _FRAMING or name in read:
            raise ValueError(
                f"headers.{header} cannot be added; expected the name of a header, once, which "
                "does not say how a request is framed."
            )
        if not isinstance(source, str) or not _LINE.fullmatch(source):
            # Not repeated, because what is wrong may be a secret.
            raise ValueError(f"headers.{header} is no line of text; expected one.")
        if source.startswith("env:") and not _VARIABLE.fullmatch(source):
            raise ValueError(f"headers.{header} is {source!r}; expected env:GATEWAY_CREDENTIAL_*.")
        if source.startswith("file:") and not set(source[5:].split("/")).isdisjoint(("", "..")):
            raise ValueError(
                f"headers.{header} is {source!r}; expected file: and a path in the credentials "
                "folder."
            )
        read[name] = source
    return read


def _timeouts(timeouts: Mapping[str, object]) -> Timeouts:
    names = ("connect_s", "read_s", "idle_s")
    _refuse_unknown(timeouts, names, "timeouts.")
    for name, value in timeouts.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < cast(float, value) <= 86_400:
            raise ValueError(f"timeouts.{name} is {value!r}; expected seconds, at most a day.")
    return Timeouts(**{name: float(cast(float, timeouts[name])) for name in timeouts})


def _table(members: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = members.get(name, {})
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {value!r}; expected an object.")
    return value


def _choice(
    members: Mapping[str, object],
    name: str,
    choices: tuple[str, ...],
    default: str | None,
    prefix: str = "",
) -> str:
    value = members.get(name, default)
    if value not in choices:
        raise ValueError(f"{prefix}{name} is {value!r}; expected one of {', '.join(choices)}.")
    return str(value)


def _refuse_unknown(members: Mapping[str, object], known: tuple[str, ...], prefix: str) -> None:
    for name in members:
        if name not in known:
            raise ValueError(f"{prefix}{name} is not known; expected one of {', '.join(known)}.")
