"""Fields: what a small JSON body asks for, each checked and named where it is wrong."""

import re
from collections.abc import Collection

import msgspec

from gateway.domain.key import is_id
from gateway.domain.money import AMOUNT_MICROCENTS_MAX, cents_from_microcents, microcents_from_cents
from gateway.errors import BadRequest

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_CENTS = f"a number from 0 to {cents_from_microcents(AMOUNT_MICROCENTS_MAX)}, at most 6 decimals"
# As the limits field hold_ttl_ms is read.
_TTL_MS = re.compile(r"[1-9][0-9]{0,7}")
# Of what a caller wrote in the wrong place.
_TOLD_MAX = 60


class Fields:
    """The members of one JSON object, as they were written: no amount passes through a float."""

    def __init__(self, body: bytes, names: Collection[str]) -> None:
        """Read a body; an empty one has no members.

        Raises:
            BadRequest: it is no JSON object, or has a member that nothing reads.
        """
        try:
            found = _OBJECT.decode(body.decode()) if body else {}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise BadRequest("The body cannot be read; expected a JSON object.") from None
        self._written = {name: bytes(raw).decode() for name, raw in found.items()}
        for name in self._written.keys() - set(names):
            expected = ", ".join(names) or "an empty body"
            raise BadRequest(f"{_told(name)} is not read here; expected {expected}.")

    def agent(self, name: str) -> str:
        """Return the id of an agent."""
        try:
            text = _TEXT.decode(self._needed(name, "the id of an agent"))
        except msgspec.DecodeError:
            text = ""
        if not is_id(text):
            raise self._wrong(name, "1 to 48 letters, digits, _ or -")
        return text

    def microcents(self, name: str) -> int:
        """Return an amount that is written in cents."""
        amount_microcents = microcents_from_cents(self._needed(name, _CENTS))
        if amount_microcents is None:
            raise self._wrong(name, _CENTS)
        return amount_microcents

    def ttl_ms(self, name: str) -> int:
        """Return how long something is held."""
        expected = "milliseconds from 1 to 99999999"
        text = self._needed(name, expected)
        if _TTL_MS.fullmatch(text) is None:
            raise self._wrong(name, expected)
        return int(text)

    def __contains__(self, name: str) -> bool:
        """Say whether a member is there."""
        return name in self._written

    def _needed(self, name: str, expected: str) -> str:
        if name not in self._written:
            raise BadRequest(f"{name} is missing; expected {expected}.")
        return self._written[name]

    def _wrong(self, name: str, expected: str) -> BadRequest:
        return BadRequest(f"{name} is {_told(self._written[name])}; expected {expected}.")


def _told(text: str) -> str:
    return text if len(text) <= _TOLD_MAX else f"{text[:_TOLD_MAX]}..."
