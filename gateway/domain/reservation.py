"""Reservations: what is asked of the budgets, and every answer they give.

Every status word of the scripts (``lua/README.md``) becomes exactly one of these outcomes. They
are structs of msgspec, because some are built on every call: one costs a sixth of a named tuple.
They hold nothing but texts and numbers, so the collector of reference cycles need not see them.
"""

from typing import Literal

from msgspec import Struct

Owner = Literal["proxy", "api"]
State = Literal["held", "settled", "released", "expired", "void"]
Refusal = Literal[
    "BADARG",
    "CLOCK",
    "COLD",
    "UNKNOWN_KEY",
    "KEY_EXPIRED",
    "AGENT_NOT_ALLOWED",
    "MISMATCH",
    "LIMITS_INVALID",
    "FROZEN",
    "WINDOW",
    "JOURNAL_FULL",
    "PER_CALL",
    "CONCURRENCY",
    "RATE",
]


SettledWord = Literal["SETTLED", "DONE", "DONE_OTHER", "LATE", "VOIDED", "JOURNALED"]
ReleasedWord = Literal["RELEASED", "DONE", "VOID"]
ResumedWord = Literal["RESUMED", "HELD", "DONE", "COLD"]
KeyWord = Literal["OK", "COLD", "UNKNOWN_KEY", "KEY_EXPIRED", "AGENT_NOT_ALLOWED"]


class Ask(Struct, frozen=True, gc=False):
    """One reservation that a caller asks for.

    ``id`` is a ULID; a repeat with the same id and digest never holds twice. ``key_digest`` is
    the SHA-256 of the key text in hex, empty where the network is trusted. ``ttl_ms`` 0 takes
    the org's ``hold_ttl_ms``, or else the deployment's.
    """

    id: str
    org: str
    agent: str
    amount_microcents: int
    key_digest: str = ""
    owner: Owner = "proxy"
    body_digest: str = ""
    idempotency_digest: str = ""
    ttl_ms: int = 0


class Held(Struct, frozen=True, gc=False):
    """The amount is held on every budget of the chain (``HELD``).

    ``windows`` is opaque: hand it back to settle, release and extend. ``budget`` is the tightest
    limited budget as ``scope.window`` and ``available_microcents`` what is left in it after this
    hold; both are empty and 0 where a repeat met its own hold. ``resets_ms`` is 0 for ``total``,
    and for an extension whose window runs no more.
    """

    deadline_ms: int
    windows: str
    budget: str
    available_microcents: int
    resets_ms: int
    warnings: tuple[str, ...]


class Denied(Struct, frozen=True, gc=False):
    """A budget has no room: ``DENIED`` whatever is held, ``BUSY`` only because of holds."""

    reason: Literal["DENIED", "BUSY"]
    budget: str
    limit_microcents: int
    credit_microcents: int
    spent_microcents: int
    held_microcents: int
    resets_ms: int

    @property
    def available_microcents(self) -> int:
        """What a new hold could take; below zero where more was spent than the limit."""
        return (
            self.limit_microcents
            + self.credit_microcents
            - self.spent_microcents
            - self.held_microcents
        )


class Refused(Struct, frozen=True, gc=False):
    """Refused for another reason than a full budget.

    ``detail`` is the field (LIMITS_INVALID, BADARG), the scope (FROZEN, PER_CALL, CONCURRENCY,
    RATE) or empty; ``limit`` the ceiling (PER_CALL in microcents, CONCURRENCY a count);
    ``retry_ms`` when RATE would admit again.
    """

    reason: Refusal
    detail: str = ""
    limit: int = 0
    retry_ms: int = 0


class Finished(Struct, frozen=True, gc=False):
    """This reservation has already ended (``DONE``); what its tombstone says."""

    state: State
    quote_microcents: int
    cost_microcents: int
    reserved_ms: int
    ended_ms: int
    owner: Owner
    agent: str


class Replayed(Struct, frozen=True, gc=False):
    """Another reservation has this idempotency key (``IDEMPOTENT``)."""

    id: str
    body_digest: str
    state: State
    cost_microcents: int


class Settled(Struct, frozen=True, gc=False):
    """The end of a settle.

    ``status`` is the script's word. ``over_microcents`` is what SETTLED cost above its hold;
    ``cost_microcents`` what the reservation has cost in all, the first result where the settle
    was a repeat.
    """

    status: SettledWord
    cost_microcents: int
    over_microcents: int


class Released(Struct, frozen=True, gc=False):
    """The end of a release; ``state`` is what the reservation is now."""

    status: ReleasedWord
    state: State
    cost_microcents: int


class Gone(Struct, frozen=True, gc=False):
    """Nothing is held under this id any more (``GONE`` of extend and of credit)."""


class KeyStatus(Struct, frozen=True, gc=False):
    """What ``authenticate`` says of a key; ``agents`` is ``*`` or a comma list."""

    status: KeyWord
    key_id: str = ""
    agents: str = ""


ReserveOutcome = Held | Denied | Refused | Finished | Replayed
ExtendOutcome = Held | Denied | Refused | Gone
