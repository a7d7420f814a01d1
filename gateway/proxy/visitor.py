"""Visitors: who asks a route of ``/v1``, found out anew with every request."""

from msgspec import Struct

from gateway.domain.key import KeyText
from gateway.proxy import problem
from gateway.proxy.head import RequestHead
from gateway.proxy.problem import Problem
from gateway.proxy.refusals import Refusals

_EVERY_AGENT = "*"


class Visitor(Struct, frozen=True, gc=False):
    """A key that may be used now, or the trusted org: it reaches its own org, and these agents."""

    org: str
    key_id: str
    digest: str
    agents: str

    def may_call(self, agent: str) -> bool:
        """Say whether an agent is one of those that the key is for."""
        return self.agents == _EVERY_AGENT or agent in self.agents.split(",")


class Visitors:
    """Finds out who asks. ``trusted_org`` is everybody's where keys are off, else empty."""

    def __init__(self, refusals: Refusals, trusted_org: str) -> None:
        self._refusals = refusals
        self._trusted = KeyText(trusted_org, "", "") if trusted_org else None

    async def identify(self, head: RequestHead) -> Visitor | Problem:
        """Return who asks, or why nobody is answered.

        Raises:
            StoreError: that cannot be found out.
        """
        key = self._trusted or head.key
        if key is None:
            return problem.unauthenticated()
        status = await self._refusals.key_status(key)
        if isinstance(status, Problem):
            return status
        return Visitor(key.org, key.key_id, key.digest, status.agents)
