"""Limits: the fields that operators set, and what a valid value of each looks like."""

import re
from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.domain.money import AMOUNT_MICROCENTS_MAX, cents_from_microcents, microcents_from_cents

DEFAULT_WARN_AT = "0.8"
_MAX = cents_from_microcents(AMOUNT_MICROCENTS_MAX)
_NUMBER = f"a number from 0 to {_MAX} with at most 6 decimals"
_SCOPE = re.compile(r"(org|agent\.(?:\*|[A-Za-z0-9_-]{1,48}))\.(.+)")
_HOLD_TTL_MS = re.compile(r"[1-9][0-9]{0,7}")
_SHARE = re.compile(r"0\.[0-9]{1,4}|1(?:\.0{1,4})?")
_UNTIL = re.compile(r"[0-9]{1,11}")
_OVERRIDE = re.compile(
    r"(org|agent\.(?:\*|[A-Za-z0-9_-]{1,48}))\.(\w+)\.(override_(?:cents|until))"
)


def check_field(field: str, value: str, windows: Sequence[str]) -> str | None:
    """Return a sentence that says what is wrong with a field, or None where it is valid.

    ``windows`` is the deployment's list. An unknown field is wrong: nothing reads it, so whoever
    set it believes in a limit that is not there.
    """
    expected = _org_wide(field, value)
    if expected is None:
        expected = _scoped(field, value, windows)
    return f"{field} is {value!r}; expected {expected}." if expected else None


def check_override(field: str, limits: Mapping[str, str], now_s: int) -> str | None:
    """Return why an override of these limits does not count at an instant, or None.

    ``field`` is any field; only the amounts and ends of overrides are looked at. An agent's own
    falls back to that of all agents, as in the scripts.
    """
    match = _OVERRIDE.fullmatch(field)
    if match is None:
        return None
    scope, window, part = match.groups()
    other = "override_until" if part == "override_cents" else "override_cents"
    others = [
        value
        for name, value in limits.items()
        if (found := _OVERRIDE.fullmatch(name)) is not None
        and found.groups()[1:] == (window, other)
        and _may_meet(scope, found[1])
    ]
    if not others:
        return f"{field} is set without {other}; the override is ignored."
    ends = others if part == "override_cents" else [limits[field]]
    if not any(_UNTIL.fullmatch(end) and int(end) > now_s for end in ends):
        return f"{field} is of an override that is over; it is ignored."
    return None


def _may_meet(scope: str, other: str) -> bool:
    """Say whether settings of both scopes can count for one budget."""
    return scope == other or ("agent.*" in (scope, other) and "org" not in (scope, other))


def _org_wide(field: str, value: str) -> str | None:
    # "" says that the field is known and valid, None that it is another kind of field.
    if field == "status":
        return "" if value in ("active", "frozen") else "active or frozen"
    if field == "on_expiry":
        return "" if value in ("charge", "release") else "charge or release"
    if field == "hold_ttl_ms":
        return "" if _HOLD_TTL_MS.fullmatch(value) else "milliseconds from 1 to 99999999"
    if field == "timezone":
        return "" if _is_zone(value) else "an IANA zone such as Europe/Berlin"
    return None


def _scoped(field: str, value: str, windows: Sequence[str]) -> str:
    match = _SCOPE.fullmatch(field)
    if match is None:
        return "a field of the contract; this one is read by nothing"
    scope, setting = match.groups()
    if setting == "status" and scope != "org":
        return "" if value in ("active", "frozen") else "active or frozen"
    if setting in ("rpm", "concurrency", "per_call_cents"):
        return "" if _is_number(value) else f"{_NUMBER}, or none"
    window, _, setting = setting.partition(".")
    if window not in windows:
        return f"one of the windows {', '.join(windows)}"
    return _budget(setting, value)


def _budget(setting: str, value: str) -> str:
    if setting == "limit_cents":
        return "" if _is_number(value) else f"{_NUMBER}, or none"
    if setting == "mode":
        return "" if value in ("hard", "soft", "shadow") else "hard, soft or shadow"
    if setting == "warn_at":
        share = _SHARE.fullmatch(value) and value.strip("0.")
        return "" if share else f"a share above 0, at most 1; {DEFAULT_WARN_AT} counts until then"
    if setting == "override_cents":
        return "" if microcents_from_cents(value) is not None else _NUMBER
    if setting == "override_until":
        return "" if _UNTIL.fullmatch(value) else "epoch seconds; it is ignored until then"
    return "limit_cents, mode, warn_at, override_cents or override_until"


def _is_number(value: str) -> bool:
    return value == "none" or microcents_from_cents(value) is not None


def _is_zone(value: str) -> bool:
    try:
        ZoneInfo(value)
    # A name that is a folder of the zone database, or not a relative path, is no zone either.
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
