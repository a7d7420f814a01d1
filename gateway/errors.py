"""The faults of the gateway: one root, each with a stable code.

    GatewayError
    ├── BadRequest              the caller's mistake; the message is safe to show
    ├── UpstreamError           the agent service failed us
    │   ├── UpstreamUnreachable transient; nothing was sent, so nothing ran
    │   ├── UpstreamBroken      the answer broke off; the call may have run
    │   └── UpstreamTimeout     no answer in time; the call may have run
    ├── StoreError              Redis failed us
    │   └── StoreUnavailable    transient
    │       ├── StoreNotReady   connected, but the node marker is missing
    │       └── OutcomeUnknown  sent but not answered; repeat with the same id, or release
    ├── LedgerError             Postgres failed us
    │   └── LedgerUnavailable   transient
    └── ConfigError             raised only at start

Denials are answers (``domain/reservation.py``), never exceptions. No class knows an HTTP status:
``proxy/problem.py`` maps them.
"""

from typing import ClassVar


class GatewayError(Exception):
    """The root: a message that is a sentence, a public code, and whether a repeat may help."""

    code: ClassVar[str] = "internal_error"
    transient: ClassVar[bool] = False


class BadRequest(GatewayError):
    """The caller's mistake; the message names the field and what was expected."""

    code = "bad_request"


class UpstreamError(GatewayError):
    """The agent service behind the gateway failed."""

    code = "upstream_broken"


class UpstreamUnreachable(UpstreamError):
    """No connection was made or nothing was sent: the call certainly did not run."""

    code = "upstream_unreachable"
    transient = True


class UpstreamBroken(UpstreamError):
    """The answer broke off or was not HTTP: the call may have run."""


class UpstreamTimeout(UpstreamError):
    """No answer, or no further byte of it, in time: the call may have run."""

    code = "upstream_timeout"


class StoreError(GatewayError):
    """Redis answered with an error."""

    code = "budget_store_unavailable"


class StoreUnavailable(StoreError):
    """Redis cannot be reached or does not accept writes; nothing was sent."""

    transient = True


class StoreNotReady(StoreUnavailable):
    """Redis answers but has no node marker: it is empty or foreign until migrate or rebuild."""

    code = "store_not_ready"


class OutcomeUnknown(StoreUnavailable):
    """A call was sent and not answered: it may have been applied."""


class LedgerError(GatewayError):
    """Postgres answered with an error."""

    code = "ledger_unavailable"


class LedgerUnavailable(LedgerError):
    """Postgres cannot be reached."""

    transient = True


class ConfigError(GatewayError):
    """A setting, a server or a file is not usable; raised only at start."""

    code = "config_invalid"
