"""Keys: whether one may be used, and for which agent."""

from tests.model.budgets import Answer
from tests.model.calls import Authenticate
from tests.model.org import Org


def find_key(org: Org, digest: str, agent: str, now_ms: int) -> tuple[str, str, str]:
    """Return the status, the id and the agents of a key; no digest trusts the network."""
    if not digest:
        return "OK", "", "*"
    parts = org.keys.get(digest, "").split("|")
    if len(parts) != 4 or parts[1] != "active":
        return "UNKNOWN_KEY", "", ""
    key_id, _, expires_ms, agents = parts
    if int(expires_ms or "0") and int(expires_ms) <= now_ms:
        return "KEY_EXPIRED", key_id, agents
    if agent and agents != "*" and agent not in agents.split(","):
        return "AGENT_NOT_ALLOWED", key_id, agents
    return "OK", key_id, agents


def authenticate(org: Org, call: Authenticate) -> Answer:
    """Say whether a key may be used."""
    now_ms = org.clamped_ms
    status, key_id, agents = find_key(org, call.key_digest, call.agent, now_ms)
    answer: Answer = [status]
    if "schema" not in org.meta:
        answer = ["COLD"]
    elif status == "OK":
        answer = ["OK", key_id, agents]
    return [*answer, org.seq, now_ms]
