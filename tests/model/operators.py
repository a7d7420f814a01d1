"""Operators: the steps of a walk that no script takes: limits, keys, the zone, billing."""

from collections.abc import Sequence
from random import Random

from gateway.budgets.keys import org_key
from gateway.domain.window import WindowKind
from tests.model import draws
from tests.model.calls import ORG
from tests.model.twin import Twin

_ROOMY = "100000"


class Operators:
    """Those who write what the scripts only read, in the model and in the store."""

    def __init__(self, twin: Twin, dice: Random, kinds: Sequence[WindowKind]) -> None:
        self.twin = twin
        self.dice = dice
        self.kinds = kinds

    def limit(self) -> None:
        """Let an operator set a limit."""
        scope, window = self.dice.choice(draws.SCOPES), self.dice.choice(self.kinds)
        field = f"{scope}.{window}.limit_cents"
        values = (*draws.LIMITS, *draws.LIMITS, "", self.dice.choice(draws.BAD))
        self._field(field, self.dice.choice(values))

    def setting(self) -> None:
        """Let an operator set anything else, or take back what he set."""
        dice, limits = self.dice, self.twin.org.limits
        rare = [name for name in limits if not name.endswith("limit_cents") and name != "status"]
        bad = [name for name, text in limits.items() if text in draws.BAD]
        if (rare or bad) and self._one_in(2):
            self._field(dice.choice(bad or rare), "")
            return
        scope, window = dice.choice(draws.SCOPES), dice.choice(self.kinds)
        choices = {f"{scope}.{window}.{name}": texts for name, texts in draws.SETTINGS.items()}
        choices |= {f"{scope}.{rule}": texts for rule, texts in draws.RULES.items()}
        choices |= draws.ORG_WIDE if self._one_in(2) else {}
        field = dice.choice(sorted(choices))
        self._field(field, dice.choice(choices[field]))
        if field.endswith(".override_cents"):
            until = field.replace("override_cents", "override_until")
            self._field(until, dice.choice(draws.SETTINGS["override_until"]))

    def mend(self) -> None:
        """Let an operator make the limits valid and roomy again."""
        limits = self.twin.org.limits
        kept = ("limit_cents", "concurrency", "per_call_cents", "status")
        for name in [name for name in sorted(limits) if not name.endswith(kept)]:
            self._field(name, "")
        for name in [name for name, text in limits.items() if text in (*draws.BAD, "many")]:
            self._field(name, "")
        self._field("agent.writer.status", "")
        self._field("agent.*.status", "")
        self._field("status", "active")
        self._field("org.month.limit_cents", self.dice.choice(("100", _ROOMY)))
        self._meta("billing_status", "ok")
        self._meta("schema", "1")

    def zone(self) -> None:
        """Let an operator move the org to another zone."""
        self._field("timezone", self.dice.choice(draws.ZONES))

    def key(self) -> None:
        """Let an operator revoke, restrict or restore a key."""
        self._key(self.dice.choice(("d1", "d2", "d3")), self.dice.choice(draws.KEY_RECORDS))

    def billing(self) -> None:
        """Let billing freeze the org, or the org be missing from the store for a while."""
        name, text = self.dice.choice(draws.META)
        self._meta(name, text)

    def _one_in(self, count: int) -> bool:
        return self.dice.randrange(count) == count - 1

    def _field(self, field: str, text: str) -> None:
        self._write("limits", self.twin.org.limits, field, text)

    def _key(self, digest: str, record: str) -> None:
        self._write("keys", self.twin.org.keys, digest, record)

    def _meta(self, name: str, text: str) -> None:
        self._write("meta", self.twin.org.meta, name, text)

    def _write(self, key: str, fields: dict[str, str], name: str, text: str) -> None:
        fields.pop(name, None)
        if text:
            fields[name] = text
            self.twin.command("HSET", org_key(ORG, key), name, text)
        else:
            self.twin.command("HDEL", org_key(ORG, key), name)
