"""Calls word by word, as a gateway sends them: for what no verb of Python would send.

All are of the org acme and of one window, the total, unless a test says otherwise.
"""

from typing import Any

from gateway.budgets.scripts import Script, load_scripts
from tests.lua.store import FROZEN_CLOCK, KEY_DIGEST, Store

SCRIPTS = load_scripts(FROZEN_CLOCK)
# What is no amount, be it signed or not.
AMOUNTS = ["", "007", "1e3", "nan", " 5", "0x1", "9007199254740992", "1" * 17]
TOTAL = {"status": "active", "org.total.limit_cents": "1"}

_NODE_KEYS = {"expiry": "bg:expiry", "journal": "bg:journal"}
# KEYS and ARGV of each script, in the order of its header.
_KEYS = {
    "reserve": "limits meta keys holds expiry done:ID journal rate idem:- spend:total",
    "settle": "limits meta holds expiry done:ID journal rate idem:- spend:total",
    "release": "meta holds expiry done:ID rate idem:- spend:total",
    "resume": "meta holds expiry done:ID rate idem:- spend:total",
    "expire": "limits meta holds expiry journal rate spend:total done:ID idem:-",
    "extend": "limits meta holds expiry journal spend:total",
    "credit": "limits meta applied:ID journal spend:total",
    "correct": "limits meta applied:ID journal spend:total",
    "repair": "meta applied:ID spend:total",
    "inspect": "meta journal spend:total",
    "authenticate": "meta keys",
}
_CALLER = {"id": "", "reserved_ms": "", "org": "acme", "agent": "researcher"}
_WORDS = {
    "reserve": {
        **_CALLER,
        "amount_microcents": "5",
        "ttl_ms": "0",
        "default_ttl_ms": "60000",
        "key_digest": KEY_DIGEST,
        "owner": "proxy",
        "body_digest": "b1",
        "idem_digest": "",
        "zone": "UTC",
        "journal_entries_max": "1000",
        "epoch": "1",
        "windows": "total",
        "proposal": "",
        "kind": "total",
    },
    "settle": {
        **_CALLER,
        "amount_microcents": "4",
        "windows": "total",
        "idem_digest": "",
        "epoch": "1",
        "detail": "{}",
    },
    "release": {**_CALLER, "windows": "total", "idem_digest": ""},
    "resume": {
        **_CALLER,
        "amount_microcents": "5",
        "ttl_ms": "60000",
        "key_id": "k1",
        "owner": "proxy",
        "body_digest": "b1",
        "idem_digest": "",
        "windows": "total",
    },
    "expire": {"org": "acme", "windows": "total", "epoch": "1", "id": ""},
    "extend": {
        "id": "",
        "org": "acme",
        "agent": "researcher",
        "target_microcents": "8",
        "ttl_ms": "60000",
        "windows": "total",
        "epoch": "1",
    },
    "credit": {
        "id": "",
        "reserved_ms": "",
        "org": "acme",
        "scope": "org",
        "amount_microcents": "3",
        "zone": "UTC",
        "epoch": "1",
        "window": "total",
        "proposal": "",
    },
    "correct": {
        "id": "",
        "reservation_id": "R1",
        "reserved_ms": "",
        "org": "acme",
        "agent": "researcher",
        "amount_microcents": "-1",
        "windows": "total",
        "epoch": "1",
        "detail": "{}",
    },
    "repair": {
        "id": "",
        "windows": "total",
        "place": "3",
        "field": "org.spent",
        "amount_microcents": "2",
    },
    "inspect": {},
    "authenticate": {"key_digest": KEY_DIGEST, "agent": ""},
}


async def call(store: Store, verb: str, own_id: str = "", **changes: str) -> list[Any]:
    """Run a script with an id of its own, and with the arguments that are to differ.

    The keys are those of ``own_id`` and of acme; another org in ``changes`` has keys of its own.
    """
    org = changes.get("org", "acme") or "acme"
    keys = [
        _NODE_KEYS.get(name, f"bg:{{{org}}}:{name.replace('ID', own_id)}")
        for name in _KEYS[verb].split()
    ]
    words = {**_WORDS[verb], **changes}
    own = {"id": own_id, "reserved_ms": str(store.now_ms)}
    words |= {name: own[name] for name in own.keys() & words.keys() - changes.keys()}
    script: Script = getattr(SCRIPTS, verb)
    return await store.wire.submit(script, keys, list(words.values()))


async def hold(store: Store, **changes: str) -> str:
    """Hold 5 microcents of the total, whose limit is one cent, and return the reservation id."""
    await store.limits(TOTAL)
    own_id = store.id()
    reply = await call(store, "reserve", own_id, **changes)
    assert reply[0] == b"HELD", reply
    return own_id


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Return what differs in the contents of a store; acme's keys by their short names."""
    names = {name for name in before | after if before.get(name) != after.get(name)}
    return {name.removeprefix("bg:{acme}:").removeprefix("bg:") for name in names}


def of_a_hold(own_id: str) -> set[str]:
    """Return what the end of a reservation takes away or changes, but for the money."""
    return {
        f"holds {own_id}",
        f"expiry acme|{own_id}",
        "rate agent.researcher.open",
        "meta seq",
        *counters("held"),
    }


def counters(*names: str) -> set[str]:
    """Return the counters of both scopes in the total."""
    return {
        f"spend:total {scope}.{name}" for scope in ("org", "agent.researcher") for name in names
    }
