"""The commands org: an org is added with one limit, shown, frozen and thawed."""

import re

import pytest

from gateway.registry.clients import Clients
from tests.cli.conftest import Run

LIMITS = "bg:{acme}:limits"
MONTH = ("--month-cents", "5000")


async def test_added_org_may_spend(command: Run, clients: Clients) -> None:
    """Both stores have it, and the audit has who added it."""
    said = await command(
        *("org", "add", "acme", *MONTH, "--timezone", "Europe/Berlin"),
        *("--stripe-customer", "cus_1", "--actor", "ada", "--json"),
    )

    assert (said.code, said.err) == (0, "")
    assert said.document["created"] is True
    assert said.document["timezone"] == "Europe/Berlin"
    assert await clients.redis.hgetall(LIMITS) == {
        "status": "active",
        "timezone": "Europe/Berlin",
        "org.month.limit_cents": "5000",
    }
    rows = await clients.ledger.fetch("SELECT timezone, billing, stripe_customer FROM org")
    assert [tuple(row) for row in rows] == [("Europe/Berlin", "none", "cus_1")]
    actors = await clients.ledger.fetch("SELECT DISTINCT actor, cause FROM limit_change")
    assert [tuple(actor) for actor in actors] == [("ada", "org add")]


async def test_unlimited_org_says_so(command: Run, clients: Clients) -> None:
    """No limit is a limit of none, which is a decision and no omission."""
    said = await command("org", "add", "acme", "--unlimited")

    assert said.code == 0
    assert await clients.redis.hget(LIMITS, "org.month.limit_cents") == "none"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("acme",), "--month-cents"),
        (("acme", *MONTH, "--unlimited"), "--unlimited"),
        (("acme", "--month-cents", ""), "org.month.limit_cents"),
        (("acme", "--month-cents", "1e3"), "org.month.limit_cents"),
        (("acme", *MONTH, "--timezone", "Mars"), "timezone"),
        (("a b", *MONTH), "org is 'a b'"),
    ],
)
async def test_wrong_org_is_not_added(
    command: Run, clients: Clients, arguments: tuple[str, ...], named: str
) -> None:
    """Exit code 2, one sentence that names what is wrong, and neither store has heard of it."""
    said = await command("org", "add", *arguments)

    assert (said.code, said.out) == (2, "")
    assert named in said.err
    assert await clients.redis.keys("bg:{*") == []
    assert await clients.ledger.fetchval("SELECT count(*) FROM org") == 0


async def test_org_added_again_keeps_its_limits(command: Run, clients: Clients) -> None:
    """It says what stays and how to change it, and takes the Stripe customer it did not have."""
    await command("org", "add", "acme", *MONTH)

    said = await command("org", "add", "acme", "--unlimited", "--stripe-customer", "cus_1")

    assert said.code == 0
    assert said.out == "Org acme was there already.\n"
    assert "org.month.limit_cents of acme stays 5000" in said.err
    assert await clients.redis.hget(LIMITS, "org.month.limit_cents") == "5000"
    assert await clients.ledger.fetchval("SELECT stripe_customer FROM org") == "cus_1"


async def test_shown_org_has_everything(command: Run, clients: Clients) -> None:
    """Zone, status, billing, agents, how many keys open something, and the limits."""
    await command("org", "add", "acme", *MONTH)
    await command("agent", "add", "acme", "r1", "--upstream", "http://a.test", "--price", "tokens")
    keys = [(await command("key", "add", "acme", "--json")).document["key_id"] for _ in range(3)]
    await command("key", "revoke", "acme", keys[0])
    await clients.ledger.execute(
        "UPDATE api_key SET expires_at = now() - interval '1 s' WHERE key_id = $1", keys[1]
    )

    shown = (await command("org", "show", "acme", "--json")).document
    text = (await command("org", "show", "acme")).out

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", shown.pop("created_at"))
    assert shown == {
        "org": "acme",
        "timezone": "UTC",
        "status": "active",
        "billing": "none",
        "billing_status": "",
        "stripe_customer": "",
        "agents": ["r1"],
        "keys": 1,
        "limits": {
            "org.month.limit_cents": "5000",
            "status": "active",
            "timezone": "UTC",
        },
    }
    assert "org.month.limit_cents" in text
    assert "r1" in text


async def test_listed_orgs_have_their_status(command: Run) -> None:
    """Every org by name."""
    await command("org", "add", "beta", "--unlimited")
    await command("org", "add", "acme", *MONTH)
    await command("org", "freeze", "beta")

    listed = (await command("org", "list", "--json")).document

    assert [(org["org"], org["status"]) for org in listed["orgs"]] == [
        ("acme", "active"),
        ("beta", "frozen"),
    ]


async def test_frozen_org_is_thawed(command: Run, clients: Clients) -> None:
    """Both are recorded with who and why."""
    await command("org", "add", "acme", *MONTH)

    frozen = await command("org", "freeze", "acme", "--actor", "ada", "--cause", "leak", "--json")
    status = await clients.redis.hget(LIMITS, "status")
    thawed = await command("org", "thaw", "acme", "--actor", "ada")

    assert frozen.document == {"org": "acme", "status": "frozen"}
    assert status == "frozen"
    assert (thawed.code, thawed.out) == (0, "Org acme is active.\n")
    assert await clients.redis.hget(LIMITS, "status") == "active"
    rows = await clients.ledger.fetch(
        "SELECT new_value, actor, cause FROM limit_change "
        "WHERE field = 'status' ORDER BY id OFFSET 1"
    )
    assert [tuple(row) for row in rows] == [
        ("frozen", "ada", "leak"),
        ("active", "ada", "org thaw"),
    ]


async def test_thaw_tells_of_a_freeze_by_billing(command: Run, clients: Clients) -> None:
    """Whoever thaws is not left to believe that calls are admitted."""
    await command("org", "add", "acme", *MONTH)
    await clients.redis.hset("bg:{acme}:meta", "billing_status", "frozen")

    said = await command("org", "thaw", "acme")

    assert "billing_status is frozen" in said.err


@pytest.mark.parametrize("verb", ["show", "freeze", "thaw"])
async def test_unknown_org_is_refused(command: Run, clients: Clients, verb: str) -> None:
    """Exit code 2, and nothing is written for an org that nobody added."""
    said = await command("org", verb, "nobody")

    assert (said.code, said.out) == (2, "")
    assert said.err == "org nobody is not known; add it first.\n"
    assert await clients.redis.keys("bg:{*") == []


async def test_store_that_is_away_is_exit_code_four(
    command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not answer is told from a mistake."""
    monkeypatch.setenv("GATEWAY_REDIS_URL", "redis://127.0.0.1:1")

    said = await command("org", "list", "--json")

    assert (said.code, said.out) == (4, "")
    assert "Redis at" in said.err


async def test_word_that_is_no_text_is_refused_before_anything_is_written(
    command: Run, clients: Clients
) -> None:
    """Bytes that are no UTF-8 reach the command as lone surrogates, which no store takes."""
    said = await command("org", "add", "zz", "--month-cents", "5", "--actor", "a\udcff")

    assert said.code == 2
    assert "UTF-8" in said.err
    assert await clients.ledger.fetchval("SELECT count(*) FROM org") == 0
