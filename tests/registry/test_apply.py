"""A registry file is checked whole, applied as it says, and changes nothing the second time."""

from textwrap import dedent

import pytest

from gateway.errors import BadRequest
from gateway.registry.agents import add_agent, find_agent
from gateway.registry.clients import Clients
from gateway.registry.description import read_description
from gateway.registry.limits import Author, set_limits
from gateway.registry.orgs import add_org
from gateway.registry.plan import Change, apply, plan

AUTHOR = Author("tester", "apply acme.toml")
WINDOWS = ["day", "month", "total"]
LIMITS = "bg:{acme}:limits"
FILE = """
    [orgs.acme]
    timezone = "Europe/Berlin"
    [orgs.acme.limits]
    "org.month.limit_cents" = "5000"
    "agent.*.day.limit_cents" = 200
    [orgs.acme.agents.researcher]
    upstream = "http://agent.test"
    price = { mode = "flat", cents = "2" }
    timeouts = { read_s = 2.5 }
"""
PLACES = (
    "orgs.acme",
    "orgs.acme.limits.org.month.limit_cents",
    "orgs.acme.limits.agent.*.day.limit_cents",
    "orgs.acme.limits.timezone",
    "orgs.acme.agents.researcher",
)


async def apply_text(clients: Clients, text: str) -> list[Change]:
    """Apply a file."""
    return await apply(clients, read_description(dedent(text), WINDOWS), AUTHOR)


async def test_file_becomes_an_org(clients: Clients) -> None:
    """Both stores have its zone, limits and agents, and every place is told as created."""
    changes = await apply_text(clients, FILE)

    assert [(change.place, change.change) for change in changes] == [
        (place, "created") for place in PLACES
    ]
    assert await clients.redis.hgetall(LIMITS) == {
        "status": "active",
        "timezone": "Europe/Berlin",
        "org.month.limit_cents": "5000",
        "agent.*.day.limit_cents": "200",
    }
    assert await clients.redis.hget("bg:{acme}:meta", "schema") == "1"
    assert (await find_agent(clients, "acme", "researcher"))["timeouts"] == {"read_s": 2.5}
    authors = await clients.ledger.fetch("SELECT DISTINCT actor, cause FROM limit_change")
    assert [tuple(author) for author in authors] == [AUTHOR]


async def test_second_run_changes_nothing(clients: Clients) -> None:
    """Everything is unchanged, and nothing more is recorded."""
    await apply_text(clients, FILE)
    recorded = await clients.ledger.fetchval("SELECT count(*) FROM limit_change")

    changes = await apply_text(clients, FILE)

    assert {change.change for change in changes} == {"unchanged"}
    assert await clients.ledger.fetchval("SELECT count(*) FROM limit_change") == recorded


async def test_second_run_mends_what_redis_lost(clients: Clients) -> None:
    """Also where Postgres finds no difference."""
    await apply_text(clients, FILE)
    before = await clients.redis.hgetall("bg:{acme}:agents")
    await clients.redis.delete("bg:{acme}:agents", "bg:{acme}:meta")

    await apply_text(clients, FILE)

    assert await clients.redis.hgetall("bg:{acme}:agents") == before
    assert await clients.redis.hget("bg:{acme}:meta", "schema") == "1"


async def test_changes_are_told_from_what_to_what(clients: Clients) -> None:
    """A limit with both values, an agent by its members; a zone changes in both stores."""
    await apply_text(clients, FILE)
    text = FILE.replace("5000", "9000").replace("Europe/Berlin", "UTC").replace('"2"', '"3"')

    changes = await apply_text(clients, text)

    assert [change for change in changes if change.change != "unchanged"] == [
        Change("orgs.acme.limits.org.month.limit_cents", "changed", "5000 -> 9000"),
        Change("orgs.acme.limits.timezone", "changed", "Europe/Berlin -> UTC"),
        Change("orgs.acme.agents.researcher", "changed", "price.cents"),
    ]
    assert await clients.redis.hget(LIMITS, "timezone") == "UTC"
    assert await clients.ledger.fetchval("SELECT timezone FROM org") == "UTC"


async def test_what_the_file_does_not_name_stays(clients: Clients) -> None:
    """Other orgs, agents and fields are left as they are; an org may be named without limits."""
    await add_org(clients, "other", "UTC", {"org.day.limit_cents": "1"}, AUTHOR)
    await apply_text(clients, FILE)
    await set_limits(clients, "acme", {"org.day.limit_cents": "7"}, AUTHOR)
    description = {"upstream": "http://w.test", "price": {"mode": "flat", "cents": "1"}}
    await add_agent(clients, "acme", "writer", description)

    await apply_text(clients, '[orgs.acme.limits]\n"org.month.limit_cents" = 1\n[orgs.other]')

    assert await clients.redis.hget(LIMITS, "org.day.limit_cents") == "7"
    assert sorted(await clients.redis.hkeys("bg:{acme}:agents")) == ["researcher", "writer"]
    assert await clients.redis.hget("bg:{other}:limits", "org.day.limit_cents") == "1"


async def test_plan_writes_nothing(clients: Clients) -> None:
    """It says what would be done, and both stores are as they were."""
    changes = await plan(clients, read_description(dedent(FILE), WINDOWS))

    assert {change.change for change in changes} == {"created"}
    assert await clients.redis.keys("bg:{*") == []
    assert await clients.ledger.fetchval("SELECT count(*) FROM org") == 0


async def test_new_org_needs_a_limit(clients: Clients) -> None:
    """Of several orgs none is written where one of them could never spend."""
    text = FILE + '\n[orgs.poor.limits]\n"agent.*.day.limit_cents" = "5"\n'

    with pytest.raises(BadRequest, match=r"orgs\.poor\.limits names no org\.<window>"):
        await apply_text(clients, dedent(text))

    assert await clients.redis.keys("bg:{*") == []
    assert await clients.ledger.fetchval("SELECT count(*) FROM org") == 0


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("org = 1", "org"),
        ("orgs = 1", "orgs"),
        ('[orgs."a b"]', "orgs.a b"),
        ("[orgs]\nacme = 1", "orgs.acme"),
        ("[orgs.acme]\nzone = 'UTC'", "orgs.acme.zone"),
        ("[orgs.acme]\ntimezone = 'Mars'", "orgs.acme.timezone"),
        (
            "[orgs.acme]\ntimezone = 'UTC'\nlimits = { timezone = 'UTC' }",
            "orgs.acme.limits.timezone",
        ),
        ("[orgs.acme.limits]\n'org.day.limit_cents' = 2.5", "orgs.acme.limits.org.day.limit_cents"),
        ("[orgs.acme.limits]\n'org.rpm' = true", "orgs.acme.limits.org.rpm"),
        ("[orgs.acme.limits]\n'org.rpm' = ''", "orgs.acme.limits.org.rpm"),
        ("[orgs.acme.limits]\n'org.rp' = '1'", "orgs.acme.limits.org.rp"),
        ("[orgs.acme.limits]\n'org.week.limit_cents' = 1", "orgs.acme.limits.org.week.limit_cents"),
        ("[orgs.acme.limits]\norg.month.limit_cents = 1", "orgs.acme.limits.org"),
        ("[orgs.acme]\nagents = 1", "orgs.acme.agents"),
        ("[orgs.acme.agents]\nresearcher = 1", "orgs.acme.agents.researcher"),
        ("[orgs.acme.agents.'a b']", "orgs.acme.agents.a b"),
        (
            "[orgs.acme.agents.r]\nupstream = 'http://a.test'\nprice = { mode='flat', cents=0.5 }",
            "orgs.acme.agents.r.price.cents",
        ),
    ],
)
def test_problem_is_named_by_its_place(text: str, place: str) -> None:
    """Nothing is guessed: the line begins with the place, and there is no other line."""
    with pytest.raises(BadRequest) as refused:
        read_description(text, WINDOWS)

    assert str(refused.value).startswith(f"{place} ")
    assert "\n" not in str(refused.value)


def test_empty_limit_is_told_how_to_remove_it() -> None:
    """A file removes nothing, so an empty text cannot mean that."""
    with pytest.raises(BadRequest, match="is empty; a field is removed with limits unset only"):
        read_description("[orgs.acme.limits]\n'org.rpm' = ''", WINDOWS)


def test_every_problem_of_a_file_is_named() -> None:
    """One run tells of all of them, each on its own line."""
    text = """
        [orgs.acme.limits]
        "org.month.limit_cents" = 0.1
        "org.rpm" = "many"
        [orgs.acme.agents.researcher]
        price = { mode = "flat" }
        [orgs.acme.agents.writer]
        upstream = "agent.test"
        price = { mode = "flat", cents = "1" }
    """

    with pytest.raises(BadRequest) as refused:
        read_description(dedent(text), WINDOWS)

    assert [line.partition(" ")[0] for line in str(refused.value).splitlines()] == [
        "orgs.acme.limits.org.month.limit_cents",
        "orgs.acme.limits.org.rpm",
        "orgs.acme.agents.researcher.price.cents",
        "orgs.acme.agents.writer.upstream",
    ]


def test_file_that_is_no_toml_is_refused() -> None:
    """The place is a line and a column then."""
    with pytest.raises(BadRequest, match=r"no TOML: .*line 2"):
        read_description("[orgs]\nacme = {,}\n", WINDOWS)
