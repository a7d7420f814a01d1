"""Changes: what the verbs other than reserve are told, as frozen data."""

from msgspec import Struct

from gateway.domain.reservation import Owner, State
from gateway.domain.window import WindowKind


class Settlement(Struct, frozen=True, gc=False):
    """The real cost of a reservation.

    ``windows`` is what ``Held`` gave; ``detail`` the JSON object of the journal entry.
    """

    org: str
    agent: str
    id: str
    windows: str
    cost_microcents: int
    detail: bytes


class Credit(Struct, frozen=True, gc=False):
    """A signed change of what one budget may spend in one window instance."""

    id: str
    org: str
    scope: str
    window: WindowKind
    window_id: str
    amount_microcents: int


class Correction(Struct, frozen=True, gc=False):
    """A signed change of the billable spend of one ended reservation."""

    id: str
    org: str
    agent: str
    reservation_id: str
    windows: str
    amount_microcents: int
    detail: bytes


class Repair(Struct, frozen=True, gc=False):
    """Differences that make counters what they must be: packed window, field, microcents.

    The field is ``org.spent`` or ``agent.writer.held``. The window ``rate`` stands for the number
    of open holds, ``agent.writer.open``.
    """

    id: str
    org: str
    changes: tuple[tuple[str, str, int], ...]


class Request(Struct, frozen=True, gc=False):
    """What is known of one reservation; ``ended_ms`` and ``cost`` are 0 while it is held."""

    state: State
    owner: Owner
    agent: str
    quote_microcents: int
    cost_microcents: int
    reserved_ms: int
    deadline_ms: int
    ended_ms: int
    windows: str
