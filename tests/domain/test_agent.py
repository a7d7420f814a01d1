"""An agent's description is read whole, or refused with the member that is wrong."""

import pytest

from gateway.domain.agent import Agent, Pricing, Timeouts, read_agent

FLAT = {"upstream": "http://agent.test/base", "price": {"mode": "flat", "cents": "2"}}


def test_description_of_the_contract_is_read() -> None:
    """Every member of the contract has its place."""
    agent = read_agent(
        {
            "upstream": "https://agent.test:9000/base/",
            "dialect": "openai",
            "price": {"mode": "reported", "ceiling_cents": "50"},
            "on_unpriced": "allow",
            "charge_errors": True,
            "on_outgrow": "cut",
            "headers": {"Authorization": "env:GATEWAY_CREDENTIAL_OPENAI"},
            "timeouts": {"connect_s": 1, "read_s": 2.5, "idle_s": 3},
        }
    )

    assert agent == Agent(
        "https://agent.test:9000/base",
        Pricing("reported", None, 50_000_000, 4096),
        "openai",
        "allow",
        True,
        "cut",
        {"authorization": "env:GATEWAY_CREDENTIAL_OPENAI"},
        Timeouts(1.0, 2.5, 3.0),
    )


def test_defaults_are_those_of_the_contract() -> None:
    """Two members are enough; the rest is careful by default."""
    agent = read_agent(FLAT)

    assert (agent.on_unpriced, agent.charge_errors, agent.dialect) == ("deny", False, "auto")
    assert (agent.timeouts.read_s, agent.on_outgrow) == (610.0, "overrun")


@pytest.mark.parametrize(
    ("change", "member"),
    [
        ({"upstream": None}, "upstream"),
        ({"upstream": "agent.test"}, "upstream"),
        ({"upstream": "ftp://agent.test"}, "upstream"),
        ({"upstream": "http://"}, "upstream"),
        ({"upstream": "http://agent.test/?a=1"}, "upstream"),
        ({"upstream": "http://agent.test?"}, "upstream"),
        ({"upstream": "http://agent.test/#"}, "upstream"),
        ({"upstream": "http://user@agent.test"}, "upstream"),
        ({"upstream": "http://agent.test/a/../b"}, "upstream"),
        ({"upstream": "http://agent.test/%2e%2e/b"}, "upstream"),
        ({"upstream": "http://agent.test/a b"}, "upstream"),
        ({"upstream": "http://agent.test\r\n"}, "upstream"),
        ({"upstream": "http://agent.test/\u00e9"}, "upstream"),
        ({"upstream": "http://agent.test:99999"}, "upstream"),
        ({"upstream": "http://agent.test:0"}, "upstream"),
        ({"upstream": "http://a..b"}, "upstream"),
        ({"upstream": "http://[::1"}, "upstream"),
        ({"price": {}}, "price.mode"),
        ({"price": {"mode": "flat"}}, "price.cents"),
        ({"price": {"mode": "reported"}}, "price.ceiling_cents"),
        ({"price": {"mode": "flat", "cents": 0.1}}, "price.cents"),
        ({"price": {"mode": "flat", "cents": "1e3"}}, "price.cents"),
        ({"price": {"mode": "flat", "cents": True}}, "price.cents"),
        ({"price": {"mode": "tokens", "output_default": 0}}, "price.output_default"),
        ({"price": {"mode": "flat", "cents": "1", "cent": "1"}}, "price.cent"),
        ({"price": "flat"}, "price"),
        ({"on_unpriced": "guess"}, "on_unpriced"),
        ({"price": {"mode": "tokens"}, "on_unpriced": "flat"}, "price.cents"),
        ({"charge_errors": "yes"}, "charge_errors"),
        ({"dialect": "grpc"}, "dialect"),
        ({"headers": {"x": 1}}, "headers.x"),
        ({"headers": {"x": "a\r\nb: c"}}, "headers.x"),
        ({"headers": {"x": "env:PATH"}}, "headers.x"),
        ({"headers": {"x": "env:GATEWAY_CREDENTIAL_"}}, "headers.x"),
        ({"headers": {"x": "\u20ac"}}, "headers.x"),
        ({"headers": {"x": "file:"}}, "headers.x"),
        ({"headers": {"x": "file:/etc/passwd"}}, "headers.x"),
        ({"headers": {"x": "file:a/../../b"}}, "headers.x"),
        ({"headers": {"x:": "1"}}, "headers.x:"),
        ({"headers": {"": "1"}}, "headers."),
        ({"headers": {"Content-Length": "1"}}, "headers.Content-Length"),
        ({"headers": {"x-a": "1", "X-A": "2"}}, "headers.X-A"),
        ({"timeouts": {"read_s": 0}}, "timeouts.read_s"),
        ({"timeouts": {"read_s": "5"}}, "timeouts.read_s"),
        ({"timeouts": {"write_s": 5}}, "timeouts.write_s"),
        ({"upstreams": "http://agent.test"}, "upstreams"),
    ],
)
def test_wrong_member_is_named(change: dict[str, object], member: str) -> None:
    """Nothing is guessed: the message begins with the member and says what was expected."""
    with pytest.raises(ValueError, match=r"expected|needs") as refused:
        read_agent({**FLAT, **change})

    assert str(refused.value).startswith(f"{member} ")


@pytest.mark.parametrize(
    "upstream",
    [
        "HTTPS://Agent.Test",
        "http://[::1]:9000/a",
        "http://10.0.0.1",
        "http://b\u00fccher.test/a%20b",
    ],
)
def test_upstream_of_every_form_is_read(upstream: str) -> None:
    """Names, addresses and encoded paths are as good as the plain one."""
    assert read_agent({**FLAT, "upstream": upstream}).upstream == upstream


def test_upstream_that_may_hold_a_secret_is_not_repeated() -> None:
    """Neither a password nor a token in a query comes back in the message."""
    for upstream in ("http://user:hidden@agent.test", "http://agent.test/?token=hidden"):
        with pytest.raises(ValueError, match="upstream") as refused:
            read_agent({**FLAT, "upstream": upstream})

        assert "hidden" not in str(refused.value)
