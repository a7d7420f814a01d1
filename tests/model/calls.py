"""Script calls as data: the arguments of each verb in the order of its header, all as text."""

from typing import NamedTuple

from gateway.budgets.keys import EXPIRY, JOURNAL, org_key, spend_keys

Texts = tuple[str, ...]
ORG = "acme"


def _own(*names: str) -> Texts:
    return tuple(org_key(ORG, name) for name in names)


def _spend(windows: str) -> Texts:
    return tuple(spend_keys(ORG, windows))


class Reserve(NamedTuple):
    """Hold an amount on every budget of the chain, or on none."""

    id: str
    reserved_ms: str
    org: str
    agent: str
    amount_microcents: str
    ttl_ms: str
    default_ttl_ms: str
    key_digest: str
    owner: str
    body_digest: str
    idem_digest: str
    zone: str
    journal_entries_max: str
    epoch: str
    windows: str
    proposal: str

    @property
    def kinds(self) -> Texts:
        """The kinds of the proposed windows."""
        return tuple(window.partition(":")[0] for window in self.windows.split(","))

    def keys(self) -> Texts:
        """Return what the script declares."""
        first, done = _own("limits", "meta", "keys", "holds"), _own(f"done:{self.id}")
        last = _own("rate", f"idem:{self.idem_digest or '-'}")
        return (*first, EXPIRY, *done, JOURNAL, *last, *_spend(self.windows))

    def args(self) -> Texts:
        """Return ARGV in the order of the header."""
        return (*self, *self.kinds)


class Settle(NamedTuple):
    """Replace a hold by what the call has cost."""

    id: str
    reserved_ms: str
    org: str
    agent: str
    amount_microcents: str
    windows: str
    idem_digest: str
    epoch: str
    detail: str

    def keys(self) -> Texts:
        """Return what the script declares."""
        done, last = (
            _own(f"done:{self.id}"),
            _own("rate", f"idem:{self.idem_digest or '-'}"),
        )
        first = _own("limits", "meta", "holds")
        return (*first, EXPIRY, *done, JOURNAL, *last, *_spend(self.windows))

    def args(self) -> Texts:
        """Return ARGV in the order of the header."""
        return self


class Release(NamedTuple):
    """Give a hold back."""

    id: str
    reserved_ms: str
    org: str
    agent: str
    windows: str
    idem_digest: str

    def keys(self) -> Texts:
        """Return what the script declares."""
        last = _own(f"done:{self.id}", "rate", f"idem:{self.idem_digest or '-'}")
        return (*_own("meta", "holds"), EXPIRY, *last, *_spend(self.windows))

    def args(self) -> Texts:
        """Return ARGV in the order of the header."""
        return self


class Resume(NamedTuple):
    """Hold again what was granted before the store forgot it."""

    id: str
    reserved_ms: str
    org: str
    agent: str
    amount_microcents: str
    ttl_ms: str
    key_id: str
    owner: str
    body_digest: str
    idem_digest: str
    windows: str

    def keys(self) -> Texts:
        """Return what the script declares."""
        last = _own(f"done:{self.id}", "rate", f"idem:{self.idem_digest or '-'}")
        return (*_own("meta", "holds"), EXPIRY, *last, *_spend(self.windows))

    def args(self) -> Texts:
        """Return ARGV in the order of the header."""
        return self


class Extend(NamedTuple):
    """Give an open reservation more money, more time or both."""

    id: str
    org: str
    agent: str
    target_microcents: str
    ttl_ms: str
    windows: str
    epoch: str

    def keys(self) -> Texts:
        """Return what the script declares."""
        return (*_own("limits", "meta", "holds"), EXPIRY, JOURNAL, *_spend(self.windows))

    def args(self) -> Texts:
        """Return ARGV in the order of the header."""
        return self


class Expire(NamedTuple):
    """End overdue reservations that share their windows and their idempotency digest."""

    org: str
    windows: str
    epoch: str
    ids: Texts
    idem_digest: str

    def keys(self) -> Texts:
        """Return what the script declares."""
        first = (*_own("limits", "meta", "holds"), EXPIRY, JOURNAL, *_own("rate"))
        idem = f"idem:{self.idem_digest or '-'}"
        ends = [name for id in self.ids for name in (f"done:{id}", idem)]
        return (*first, *_spend(self.windows), *_own(*ends))

    def args(self) -> Texts:
        """Return ARGV in the order of the header."""
        return (self.org, self.windows, self.epoch, *self.ids)


class Credit(NamedTuple):
    """Raise or lower what one budget may spend in one window."""

    id: str
    reserved_ms: str
    org: str
    scope: str
    amount_microcents: str
    zone: str
    epoch: str
    window: str
    proposal: str

    def keys(self) -> Texts:
        """Return what the script declares."""
        return (*_own("limits", "meta", f"applied:{self.id}"), JOURNAL, *_spend(self.window))

    def args(self) -> Texts:
        """Return ARGV in the order of the header."""
        return self


class Correct(NamedTuple):
    """Change the billable spend of one reservation after its end."""

    id: str
    reservation_id: str
    reserved_ms: str
    org: str
    agent: str
    amount_microcents: str
    windows: str
    epoch: str
    detail: str

    def keys(self) -> Texts:
        """Return what the script declares."""
        return (*_own("limits", "meta", f"applied:{self.id}"), JOURNAL, *_spend(self.windows))

    def args(self) -> Texts:
        """Return ARGV in the order of the header."""
        return self


class Repair(NamedTuple):
    """Make counters equal the ledger; ``changes`` are packed window, field and microcents."""

    id: str
    changes: tuple[tuple[str, str, str], ...]

    def keys(self) -> Texts:
        """Return what the script declares."""
        return (*_own("meta", f"applied:{self.id}"), *_spend(",".join(self._windows())))

    def args(self) -> Texts:
        """Return ARGV in the order of the header."""
        windows = self._windows()
        places = {window: str(at) for at, window in enumerate(windows, 3)}
        changes = [(places[window], scope, amount) for window, scope, amount in self.changes]
        return (self.id, ",".join(windows), *(word for change in changes for word in change))

    def _windows(self) -> list[str]:
        return list(dict.fromkeys(window for window, _, _ in self.changes))


class Inspect(NamedTuple):
    """Look at counters."""

    windows: str

    def keys(self) -> Texts:
        """Return what the script declares."""
        return (*_own("meta"), JOURNAL, *_spend(self.windows))

    def args(self) -> Texts:
        """Return ARGV in the order of the header."""
        return ()


class Authenticate(NamedTuple):
    """Say whether a key may be used."""

    key_digest: str
    agent: str

    def keys(self) -> Texts:
        """Return what the script declares."""
        return _own("meta", "keys")

    def args(self) -> Texts:
        """Return ARGV in the order of the header."""
        return self


Call = (
    Reserve
    | Settle
    | Release
    | Resume
    | Extend
    | Expire
    | Credit
    | Correct
    | Repair
    | Inspect
    | Authenticate
)


def script_name(call: Call) -> str:
    """Return the name of the script that a call runs."""
    return type(call).__name__.lower()
