"""Exposure: which amounts a caller may see in answers, by ``GATEWAY_EXPOSE_AMOUNTS``."""

from typing import Literal

from gateway.budgets.verbs import Budgets
from gateway.errors import StoreError

Exposed = Literal["full", "own", "none"]
_EVERY_AGENT = "*"


class Exposure:
    """Decides for one budget and one key.

    ``own`` hides the amounts of a scope above the key's: those of the org from a key that is
    only for some of its agents. ``shows_all`` says that every amount may be told to everybody.
    """

    def __init__(self, budgets: Budgets, exposed: Exposed) -> None:
        self._budgets = budgets
        self._exposed = exposed
        self.shows_all = exposed == "full"

    async def shows(self, org: str, key_digest: str, scope: str) -> bool:
        """Say whether amounts of a budget or scope such as ``org.month`` may be told."""
        if self._exposed != "own":
            return self.shows_all
        if not scope.startswith("org") or not key_digest:
            return True
        # The scope of a key is asked each time, as everything of a key is.
        try:
            key = await self._budgets.authenticate(org, key_digest)
        except StoreError:
            return False
        return key.agents == _EVERY_AGENT
