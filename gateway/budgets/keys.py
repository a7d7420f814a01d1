"""Every Redis key of the gateway: its name, type, writer and lifetime, in one table."""

from typing import Literal, NamedTuple

from gateway.domain.window import Window

NODE = "bg:node"
EXPIRY = "bg:expiry"
JOURNAL = "bg:journal"
JOURNAL_GROUP = "ledger"
# Where a repair names a window: the counts of open holds.
RATE = "rate"


class Layout(NamedTuple):
    """One kind of key; ``permanent`` ones have no TTL, the leak check of the tests relies on it."""

    name: str
    pattern: str
    type: Literal["hash", "string", "zset", "stream"]
    writer: str
    permanent: bool


LAYOUTS = (
    Layout("node", "bg:node", "hash", "migrate, rebuild, worker", True),
    Layout("limits", "bg:{org}:limits", "hash", "ops, command line, admin API", True),
    Layout("agents", "bg:{org}:agents", "hash", "registry", True),
    Layout("keys", "bg:{org}:keys", "hash", "registry", True),
    Layout("meta", "bg:{org}:meta", "hash", "scripts, registry", True),
    Layout("spend", "bg:{org}:spend:<window>:<id>", "hash", "scripts", False),
    Layout("spend", "bg:{org}:spend:total", "hash", "scripts", True),
    Layout("holds", "bg:{org}:holds", "hash", "scripts", True),
    Layout("done", "bg:{org}:done:<id>", "string", "scripts", False),
    Layout("applied", "bg:{org}:applied:<id>", "string", "scripts", False),
    Layout("idem", "bg:{org}:idem:<digest>", "string", "scripts", False),
    Layout("rate", "bg:{org}:rate", "hash", "scripts", True),
    Layout("expiry", "bg:expiry", "zset", "scripts", True),
    Layout("journal", "bg:journal", "stream", "scripts", True),
)


def org_key(org: str, name: str) -> str:
    """Return one of the org's own keys; the braces keep them in one slot of a cluster."""
    return f"bg:{{{org}}}:{name}"


def spend_key(org: str, window: Window) -> str:
    """Return the counters of one window instance."""
    if window.kind == "total":
        return f"bg:{{{org}}}:spend:total"
    return f"bg:{{{org}}}:spend:{window.kind}:{window.id}"


def spend_keys(org: str, windows: str) -> list[str]:
    """Return the counters of a packed window list such as ``day:2026-11-22,total``."""
    return [f"bg:{{{org}}}:spend:{window}" for window in windows.split(",")]
