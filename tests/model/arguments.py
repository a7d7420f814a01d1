"""Arguments: which one of a call is malformed, as ``BADARG`` names it."""

import re

from tests.model.calls import (
    Call,
    Correct,
    Credit,
    Expire,
    Extend,
    Release,
    Reserve,
    Resume,
    Settle,
)

CAP = 2**53 - 1
_WORD, _NUMBER, _NAME = r"[0-9A-Za-z]+", r"[0-9]+", r"[\w-]+"
_FORMS = {
    "id": _WORD,
    "reservation_id": _WORD,
    "reserved_ms": _NUMBER,
    "org": _NAME,
    "agent": _NAME,
    "scope": r".+",
    "ttl_ms": _NUMBER,
    "default_ttl_ms": _NUMBER,
    "target_microcents": _NUMBER,
    "key_digest": r"[0-9A-Za-z]*",
    "key_id": r"[0-9A-Za-z]*",
    "owner": r"[A-Za-z]+",
    "body_digest": r"[0-9A-Za-z]*",
    "idem_digest": r"[0-9A-Za-z]*",
    "zone": r"[0-9A-Za-z/_+-]+",
    "journal_entries_max": _NUMBER,
    "epoch": _WORD,
    "windows": r"[\w:,-]+",
}
_SIGNED = re.compile(r"-?[0-9]+")
_CREDIT = {"window": r"[0-9A-Za-z:-]+", "proposal": r"[0-9A-Za-z|-]*"}
_LENGTH_MAX = {"ttl_ms": 15, "default_ttl_ms": 15}


def bad_argument(call: Call) -> str | None:
    """Return the name of the first argument that is not formed as the contract says."""
    if isinstance(call, Expire):
        return _first(call, {}) or ("ids" if len(call.ids) > 100 else None)
    if isinstance(call, Credit | Correct):
        forms = _CREDIT if isinstance(call, Credit) else {}
        bad = _first(call, {**forms, "amount_microcents": r"-?[0-9]+"})
        is_scoped = not isinstance(call, Credit) or re.fullmatch(
            r"org|agent\.[\w-]+", call.scope, re.ASCII
        )
        bad = bad or (None if is_scoped else "scope")
        return bad or (None if is_signed(call.amount_microcents) else "amount_microcents")
    if not isinstance(call, Reserve | Settle | Release | Resume | Extend):
        return None
    skipped = {"windows", "proposal"} if isinstance(call, Reserve) else set()
    bad = _first(call, {"amount_microcents": _NUMBER}, skipped)
    amount = {"Extend": "target_microcents"}.get(type(call).__name__, "amount_microcents")
    long = [name for name, most in _LENGTH_MAX.items() if len(getattr(call, name, "")) > most]
    is_amount = isinstance(call, Release) or _is_amount(getattr(call, amount))
    order = [*([] if is_amount else [amount]), *long]
    # Reserve looks at the amount last, resume and extend at the time to live.
    order = order if isinstance(call, Resume | Extend) else [*long, *order]
    return bad or (order[0] if order else None)


def is_signed(text: str) -> bool:
    """Whether a text is an amount that may be below zero."""
    return text != "-0" and _is_amount(text.removeprefix("-"))


def _is_amount(text: str) -> bool:
    return re.fullmatch(r"0|[1-9][0-9]{0,15}", text) is not None and int(text) <= CAP


def _first(call: Call, more: dict[str, str], skipped: set[str] | None = None) -> str | None:
    forms = {**_FORMS, **more}
    for name in call._fields:
        if name in forms and name not in (skipped or ()):
            text = getattr(call, name)
            if not re.fullmatch(forms[name], text, re.ASCII):
                return name
    return None
