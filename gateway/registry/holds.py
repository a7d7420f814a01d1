"""Holds: what the open reservations of an org say that its counters must hold."""

from collections import Counter
from collections.abc import Mapping

from gateway.budgets.records import held_request, split_token
from gateway.errors import StoreError

_OPEN = ".open"


def held_by(holds: Mapping[str, str]) -> Counter[tuple[str, str]]:
    """Return what is held by packed window and scope, in microcents.

    Raises:
        StoreError: one record cannot be read, so nobody knows what it holds.
    """
    held = Counter[tuple[str, str]]()
    for id, record in holds.items():
        request = held_request(record)
        if request is None:
            raise StoreError(f"The record of the open reservation {id} cannot be read.")
        packed, _ = split_token(request.windows)
        for window in packed.split(","):
            for scope in ("org", f"agent.{request.agent}"):
                held[window, scope] += request.quote_microcents
    return held


def open_by(holds: Mapping[str, str]) -> Counter[str]:
    """Return how many reservations are open, by the scope of their agent; skip the unreadable."""
    requests = map(held_request, holds.values())
    scopes = (f"agent.{request.agent}" for request in requests if request is not None)
    return Counter[str](scopes)


def counted_open(rate: Mapping[str, str]) -> dict[str, int]:
    """Return how many the limit of concurrency counts as open, by the scope of their agent.

    Raises:
        StoreError: a number is none, so somebody else has written it.
    """
    found = dict[str, int]()
    for field, text in rate.items():
        if field.endswith(_OPEN):
            try:
                found[field.removesuffix(_OPEN)] = int(text)
            except ValueError as error:
                raise StoreError(f"{field} is {text!r}; expected an integer.") from error
    return found
