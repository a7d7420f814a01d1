"""The commands agent: an agent is described by options, shown without its secrets, and removed."""

import orjson
import pytest

from gateway.domain.agent import read_agent
from gateway.registry.clients import Clients
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from tests.cli.conftest import Run

HASH = "bg:{acme}:agents"
FLAT = ("--upstream", "http://agent.test", "--price", "flat", "--cents", "2")
EVERY_OPTION = (
    *("--upstream", "https://agent.test/base", "--price", "reported"),
    *("--cents", "2.5", "--ceiling-cents", "50", "--output-default", "100"),
    *("--dialect", "openai", "--on-unpriced", "flat", "--charge-errors", "--on-outgrow", "cut"),
    *("--header", "authorization=env:GATEWAY_CREDENTIAL_OPENAI", "--header", "x-team=a=b"),
    *("--connect-s", "1", "--read-s", "2.5", "--idle-s", "3"),
)


@pytest.fixture(autouse=True)
async def acme(clients: Clients) -> None:
    """Add the org acme."""
    await add_org(clients, "acme", "UTC", {"org.month.limit_cents": "10"}, Author("tester"))


async def test_every_member_has_an_option(command: Run, clients: Clients) -> None:
    """The description of the contract can be typed, and the gateway can read it."""
    said = await command("agent", "add", "acme", "r1", *EVERY_OPTION, "--json")

    assert (said.code, said.err) == (0, "")
    assert said.document == {"org": "acme", "agent": "r1", "change": "created", "members": []}
    stored = orjson.loads(await clients.redis.hget(HASH, "r1"))
    assert stored == {
        "upstream": "https://agent.test/base",
        "dialect": "openai",
        "price": {
            "mode": "reported",
            "cents": "2.5",
            "ceiling_cents": "50",
            "output_default": 100,
        },
        "on_unpriced": "flat",
        "charge_errors": True,
        "on_outgrow": "cut",
        "headers": {"authorization": "env:GATEWAY_CREDENTIAL_OPENAI", "x-team": "a=b"},
        "timeouts": {"connect_s": 1.0, "read_s": 2.5, "idle_s": 3.0},
    }
    assert read_agent(stored).pricing.ceiling_microcents == 50_000_000


async def test_what_is_not_typed_is_not_described(command: Run, clients: Clients) -> None:
    """Defaults stay with the gateway, so that they can change with it."""
    await command("agent", "add", "acme", "r1", *FLAT)

    assert orjson.loads(await clients.redis.hget(HASH, "r1")) == {
        "upstream": "http://agent.test",
        "price": {"mode": "flat", "cents": "2"},
    }


async def test_added_again_tells_what_changed(command: Run) -> None:
    """The whole description is replaced, so what is not typed again is named too."""
    await command("agent", "add", "acme", "r1", *FLAT, "--dialect", "openai")

    same = await command("agent", "add", "acme", "r1", *FLAT, "--dialect", "openai", "--json")
    other = await command("agent", "add", "acme", "r1", *FLAT[:-1], "3")

    assert same.document["change"] == "unchanged"
    assert other.out == "Agent r1 of acme is changed: dialect, price.cents.\n"


async def test_literal_secret_is_taken_with_a_warning(command: Run, clients: Clients) -> None:
    """The header is named on standard error, its value nowhere; a reference is no secret."""
    headers = ("--header", "X-Api-Key=sk-1", "--header", "x-team=a", "--header", "cookie=file:c")

    said = await command("agent", "add", "acme", "r1", *FLAT, *headers)

    assert said.code == 0
    assert [line.split()[2] for line in said.err.splitlines()] == ["headers.X-Api-Key"]
    assert "sk-1" not in said.out + said.err
    assert "sk-1" in await clients.redis.hget(HASH, "r1")


async def test_shown_agent_has_no_literal_header(command: Run) -> None:
    """Literals are masked, where a value comes from is not; nor does the list have them."""
    headers = ("--header", "x-key=sk-1", "--header", "cookie=env:GATEWAY_CREDENTIAL_C")
    await command("agent", "add", "acme", "r1", *FLAT, *headers)

    shown = await command("agent", "show", "acme", "r1", "--json")
    drawn = await command("agent", "show", "acme", "r1")
    listed = await command("agent", "list", "acme", "--json")
    table = await command("agent", "list", "acme")

    expected = {"x-key": "***", "cookie": "env:GATEWAY_CREDENTIAL_C"}
    assert shown.document["description"]["headers"] == expected
    assert listed.document["agents"] == [
        {"agent": "r1", "description": shown.document["description"]}
    ]
    assert "headers.cookie" in drawn.out
    assert "http://agent.test" in table.out
    assert "sk-1" not in "".join(said.out for said in (shown, drawn, listed, table))


async def test_removed_agent_is_gone(command: Run, clients: Clients) -> None:
    """From both stores; removing it again is refused."""
    await command("agent", "add", "acme", "r1", *FLAT)

    said = await command("agent", "remove", "acme", "r1", "--json")
    again = await command("agent", "remove", "acme", "r1")

    assert said.document == {"org": "acme", "agent": "r1", "change": "removed"}
    assert (again.code, again.err) == (2, "agent r1 is not known in org acme.\n")
    assert await clients.redis.exists(HASH) == 0
    assert (await command("agent", "list", "acme", "--json")).document["agents"] == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("add", "nobody", "r1", *FLAT), "org nobody"),
        (("add", "acme", "a b", *FLAT), "agent is 'a b'"),
        (("add", "acme", "r1", "--price", "flat"), "--upstream"),
        (("add", "acme", "r1", "--upstream", "http://a.test"), "--price"),
        (("add", "acme", "r1", *FLAT[:-2]), "price.cents"),
        (("add", "acme", "r1", *FLAT[:-1], "2.0000001"), "price.cents"),
        (("add", "acme", "r1", *FLAT, "--idle-s", "0"), "timeouts.idle_s"),
        (("add", "acme", "r1", *FLAT, "--header", "sk-1"), "NAME=VALUE"),
        (("add", "acme", "r1", *FLAT, "--header", "x=1", "--header", "x=2"), "header x"),
        (("add", "acme", "r1", *FLAT, "--header", "x=env:PATH"), "headers.x"),
        (("add", "acme", "r1", "--price", "free", "--upstream", "http://a.test"), "--price"),
        (("list", "nobody"), "org nobody"),
        (("show", "acme", "r1"), "agent r1"),
    ],
)
async def test_wrong_agent_is_refused(
    command: Run, clients: Clients, arguments: tuple[str, ...], named: str
) -> None:
    """Exit code 2, the member or option is named, no value of a header is, nothing is written."""
    said = await command("agent", *arguments)

    assert (said.code, said.out) == (2, "")
    assert named in said.err
    assert "sk-1" not in said.err
    assert await clients.redis.exists(HASH) == 0
