"""Refusals: what a caller is told where the budgets, its key, or the store say no."""

import structlog

from gateway.budgets.verbs import Budgets
from gateway.domain.key import KeyText
from gateway.domain.reservation import (
    Ask,
    Denied,
    Finished,
    KeyStatus,
    KeyWord,
    Refused,
    Replayed,
)
from gateway.proxy import problem
from gateway.proxy.exposure import Exposure
from gateway.proxy.problem import Problem

# Where keys are off: everybody may call every agent.
_TRUSTED = KeyStatus("OK", "", "*")

_log = structlog.get_logger()


class Refusals:
    """Finds the words for every answer but a hold, the same for all who ask."""

    def __init__(self, budgets: Budgets, exposure: Exposure) -> None:
        self._budgets = budgets
        self._exposure = exposure

    async def of_outcome(
        self, outcome: Denied | Refused | Finished | Replayed, ask: Ask
    ) -> Problem:
        """Return why an ask is not held, with the amounts that its key may see."""
        if isinstance(outcome, Replayed):
            return problem.of_replayed(outcome, ask.body_digest)
        if isinstance(outcome, Finished):
            _log.error("fresh_reservation_has_ended", reservation_id=ask.id, state=outcome.state)
            return problem.of_finished(outcome)
        scope = outcome.budget if isinstance(outcome, Denied) else outcome.detail
        visible = await self._exposure.shows(ask.org, ask.key_digest, scope)
        if isinstance(outcome, Denied):
            return problem.of_denied(outcome, ask.org, ask.amount_microcents, visible=visible)
        if outcome.reason in ("BADARG", "MISMATCH"):
            word, of = outcome.reason, outcome.detail
            _log.error("reserve_refused", reservation_id=ask.id, org=ask.org, word=word, of=of)
        stands = await self._stands(outcome.reason)
        return problem.of_refused(outcome, node_stands=stands, visible=visible)

    async def key_status(self, key: KeyText, agent: str = "") -> KeyStatus | Problem:
        """Return what a key may do now, or why it may not be used (for an agent, if one is named).

        Raises:
            StoreError: that cannot be asked.
        """
        if not key.digest:
            return _TRUSTED
        status = await self._budgets.authenticate(key.org, key.digest, agent)
        return status if status.status == "OK" else await self.of_key(status.status)

    async def of_key(self, word: KeyWord) -> Problem:
        """Return the answer to a key that may not be used."""
        return problem.of_key(word, node_stands=await self._stands(word))

    async def _stands(self, word: str) -> bool:
        # A store that knows no org may have been emptied since the connection looked at it. One
        # that was started again may have forgotten a key, or what it may do.
        if word == "COLD":
            return await self._budgets.is_marked()
        return not self._budgets.wire.problem
