"""The command agent test: one real call, quoted and metered as the gateway would, and no other."""

from pathlib import Path
from typing import Any

import pytest

from gateway.registry.agents import add_agent
from gateway.registry.clients import Clients
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from tests.cli.conftest import Run, Said
from tests.stub_upstream import StubUpstream, stub_upstream
from tests.upstream_answers import (
    CLOSE,
    Answering,
    chunked_answer,
    json_answer,
    openai_chat,
    openai_chat_events,
    sse_answer,
)

FLAT = {"mode": "flat", "cents": "2"}
TOKENS = {"mode": "tokens"}
REPORTED = {"mode": "reported", "ceiling_cents": "50"}
CHAT = ("--path", "/v1/chat/completions?a=1", "--data", '{"model":"gpt-4o-mini","max_tokens":9}')
COST = {"budget-cost": "1.5"}


@pytest.fixture(autouse=True)
async def acme(clients: Clients) -> None:
    """Add the org acme."""
    await add_org(clients, "acme", "UTC", {"org.month.limit_cents": "10"}, Author("tester"))


async def attempt(
    command: Run,
    clients: Clients,
    price: dict[str, str],
    answer: Answering,
    *arguments: str,
    **members: Any,
) -> tuple[Said, StubUpstream]:
    """Test an agent with this price against an upstream that answers so."""
    async with stub_upstream() as upstream:
        upstream.answers(answer)
        description = {"upstream": f"{upstream.url}/base", "price": price, **members}
        await add_agent(clients, "acme", "r1", description)
        said = await command("agent", "test", "acme", "r1", *arguments, "--json")
    return said, upstream


async def test_call_is_what_a_gateway_would_send(
    command: Run, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Path, query, body and the configured headers arrive; nothing is reserved or journaled."""
    monkeypatch.setenv("GATEWAY_CREDENTIAL_A", "Bearer sk-1")
    headers = {"Authorization": "env:GATEWAY_CREDENTIAL_A", "content-type": "application/own"}

    said, upstream = await attempt(command, clients, FLAT, openai_chat(), *CHAT, headers=headers)

    received = upstream.requests[0]
    assert (received.method, received.path) == (b"POST", b"/base/v1/chat/completions?a=1")
    assert received.body == CHAT[-1].encode()
    assert received.header(b"authorization") == b"Bearer sk-1"
    assert [value for name, value in received.headers if name == b"content-type"] == [
        b"application/own"
    ]
    assert upstream.executions == 1
    assert "sk-1" not in said.out + said.err
    assert await clients.redis.exists("bg:journal", "bg:{acme}:holds", "bg:{acme}:spend:total") == 0


async def test_usage_is_priced(command: Run, clients: Clients) -> None:
    """Dialect, quote, tokens, model and cost are told, for JSON and for a stream of events."""
    whole, _ = await attempt(command, clients, TOKENS, openai_chat(), *CHAT)
    stream, _ = await attempt(command, clients, TOKENS, sse_answer(*openai_chat_events()), *CHAT)

    told = whole.document
    assert (whole.code, told["ok"], told["is_reachable"], told["status"]) == (0, True, True, 200)
    assert (told["dialect"], told["quote_source"], told["cost_source"]) == (
        "openai",
        "tokens",
        "tokens",
    )
    assert (told["input_tokens"], told["output_tokens"], told["model"]) == (12, 34, "gpt-4o-mini")
    # 12 tokens at 15 and 34 at 60 cents per million.
    assert told["cost_cents"] == "0.00222"
    assert told["says"] == "The call would be charged 0.00222 cents."
    assert {**stream.document, "duration_ms": 0, "upstream": ""} == {
        **told,
        "duration_ms": 0,
        "upstream": "",
    }


@pytest.mark.parametrize(
    ("price", "answer", "code", "charged"),
    [
        (FLAT, json_answer({}), 0, ("2", "flat")),
        (REPORTED, json_answer({}, headers=COST), 0, ("1.5", "reported")),
        (REPORTED, json_answer({}), 3, ("50", "quote")),
        (REPORTED, json_answer({}, 500, COST), 3, ("1.5", "reported")),
        (FLAT, json_answer({}, 401), 3, ("0", "released")),
        (FLAT, json_answer({}, 500), 3, ("0", "released")),
    ],
)
async def test_exit_code_says_whether_it_was_priced(
    command: Run,
    clients: Clients,
    price: dict[str, str],
    answer: Answering,
    code: int,
    charged: tuple[str, str],
) -> None:
    """An answer without a cost is 3 and names what would be charged; so is one that failed."""
    said, _ = await attempt(command, clients, price, answer)

    assert said.code == code
    assert (said.document["cost_cents"], said.document["cost_source"]) == charged
    assert said.document["ok"] == (code == 0)


async def test_call_without_a_price_is_not_made(command: Run, clients: Clients) -> None:
    """The gateway would refuse it, so the upstream does not hear of it."""
    said, upstream = await attempt(command, clients, TOKENS, openai_chat(), "--data", "{}")

    assert said.code == 3
    assert "no price for a body that names no model" in said.document["says"]
    assert upstream.executions == 0


async def test_call_that_only_reads_is_free(command: Run, clients: Clients) -> None:
    """A GET needs no body, holds nothing and is all right without a usage."""
    said, upstream = await attempt(command, clients, TOKENS, json_answer({}), "--method", "get")

    assert (said.code, said.document["quote_cents"], said.document["cost_cents"]) == (0, "0", "0")
    assert (upstream.requests[0].method, upstream.requests[0].body) == (b"GET", b"")


async def test_header_without_its_value_is_told(command: Run, clients: Clients) -> None:
    """The variable is named, and the upstream is not called without its credential."""
    headers = {"authorization": "env:GATEWAY_CREDENTIAL_MISSING"}

    said, upstream = await attempt(command, clients, FLAT, json_answer({}), headers=headers)

    assert said.code == 3
    assert "GATEWAY_CREDENTIAL_MISSING" in said.document["says"]
    assert upstream.executions == 0


async def test_upstream_that_is_not_there_is_told(command: Run, clients: Clients) -> None:
    """Unreachable is not the same as broken off."""
    broken, _ = await attempt(command, clients, FLAT, chunked_answer(b"{", CLOSE))
    gone = await command("agent", "test", "acme", "r1", "--json")

    assert (gone.code, gone.document["is_reachable"], gone.document["status"]) == (3, False, None)
    assert "cannot be reached" in gone.document["says"]
    assert (broken.code, broken.document["is_reachable"]) == (3, True)
    assert "no whole answer" in broken.document["says"]


async def test_body_may_come_from_a_file(command: Run, clients: Clients, tmp_path: Path) -> None:
    """The file is sent as it is, and people read the result as a table."""
    (tmp_path / "call.json").write_bytes(b'{ "a": 1 }\n')
    async with stub_upstream() as upstream:
        await add_agent(clients, "acme", "r1", {"upstream": upstream.url, "price": FLAT})
        said = await command("agent", "test", "acme", "r1", "--data", "@call.json")

    assert upstream.requests[0].body == b'{ "a": 1 }\n'
    assert upstream.requests[0].path == b"/invoke"
    assert said.code == 0
    assert "The call would be charged 2 cents." in said.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("nobody", "r1"), "org nobody"),
        (("acme", "r2"), "agent r2"),
        (("acme", "r1", "--path", "v1"), "path is 'v1'"),
        (("acme", "r1", "--path", "/a/../b"), "dot segments"),
        (("acme", "r1", "--path", "/\u00e9"), "path is"),
        (("acme", "r1", "--method", "G T"), "method is 'G T'"),
        (("acme", "r1", "--data", "{"), "data is no JSON"),
        (("acme", "r1", "--data", "@missing"), "data names missing"),
    ],
)
async def test_wrong_call_is_refused(
    command: Run, clients: Clients, arguments: tuple[str, ...], named: str
) -> None:
    """Exit code 2 and a sentence; the upstream is not called."""
    async with stub_upstream() as upstream:
        await add_agent(clients, "acme", "r1", {"upstream": upstream.url, "price": FLAT})
        said = await command("agent", "test", *arguments)

        assert (said.code, said.out) == (2, "")
        assert named in said.err
        assert upstream.connections == 0
