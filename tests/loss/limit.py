"""The limits of one org in a month: of all of it, and of its agent ``large``."""

from typing import NamedTuple

from gateway.domain.money import cents_from_microcents


class Limit(NamedTuple):
    """In microcents."""

    org: int
    large: int

    @classmethod
    def of(cls, microcents: int) -> "Limit":
        """Return the limits of an org that may spend so much, most of it on large calls."""
        return cls(microcents, microcents * 4 // 5)


def fields(limit: Limit) -> dict[str, str]:
    """Return them as operators write them."""
    return {
        "org.month.limit_cents": cents_from_microcents(limit.org),
        "agent.large.month.limit_cents": cents_from_microcents(limit.large),
    }
