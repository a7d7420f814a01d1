"""An upstream that fails costs what it may have done, and is left alone when it keeps failing."""

from typing import Any

import httpx
import pytest

from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway
from tests.stub_upstream import StubUpstream, stub_upstream
from tests.until import until
from tests.upstream_answers import Answering, die, hang, json_answer

PATHS = ("invoke", "v1/chat/completions", "v1/messages")


async def post(gateway: PlaneGateway, path: str = "invoke") -> httpx.Response:
    """Make one call of the researcher."""
    async with gateway.client() as client:
        return await client.post(f"/agents/researcher/{path}", json={})


async def test_upstream_that_is_not_there_costs_nothing(gateway: PlaneGateway, org: Any) -> None:
    """An upstream that cannot be reached is 502, and the hold is given back."""
    async with stub_upstream() as gone:
        url = gone.url
    await acme.write_agent(org, "researcher", url, {"mode": "flat", "cents": "2"})

    answer = await post(gateway)
    await gateway.settled()

    assert (answer.status_code, answer.json()["error"]) == (502, "upstream_unreachable")
    assert "x-should-retry" not in answer.headers
    assert "charged_cents" not in answer.json()
    assert await acme.counters(org) == {}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("answering", "told"),
    [(die(), (502, "upstream_broken")), (hang(), (504, "upstream_timeout"))],
    ids=["reset", "silence"],
)
async def test_upstream_that_may_have_run_is_charged(
    gateway: PlaneGateway,
    org: Any,
    upstream: StubUpstream,
    answering: Answering,
    told: tuple[int, str],
    path: str,
) -> None:
    """A call without an answer that may have run is charged, says so, and is not repeated."""
    price = {"mode": "flat", "cents": "2"}
    await acme.write_agent(org, "researcher", upstream.url, price, timeouts={"read_s": 0.1})
    upstream.answers(answering)

    answer = await post(gateway, path)
    await gateway.settled()

    assert answer.status_code == told[0]
    assert f'"{told[1]}"' in answer.text
    assert answer.headers["x-should-retry"] == "false"
    assert '"charged_cents":2' in answer.text
    assert upstream.executions == 1
    assert (await acme.counters(org))["org.spent"] == 2_000_000
    [entry] = await acme.journal(org)
    assert f'"status":{told[0]}' in entry["detail"]


async def test_answer_forgets_earlier_failures(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """Failures that are not in a row never stop calls; an error that is answered is none."""
    upstream.answers(*[die()] * 4, json_answer({}, 500), *[die()] * 4, json_answer({}))

    statuses = [(await post(gateway)).status_code for _ in range(10)]

    assert statuses == [502] * 4 + [500] + [502] * 4 + [200]


async def test_upstream_that_recovers_is_called_again(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """While calls are refused one at a time tries, and the first that succeeds ends it."""
    upstream.answers(*[die()] * 5, json_answer({}))
    for _ in range(5):
        await post(gateway)

    async def is_back() -> bool:
        return (await post(gateway)).status_code == 200

    assert not await is_back()
    await until(is_back, "the upstream to be tried")

    assert (await post(gateway)).status_code == 200


async def test_upstream_that_keeps_failing_is_left_alone(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """After five failures in a row calls are refused without being made, at no cost."""
    upstream.answers(die())
    for _ in range(5):
        assert (await post(gateway)).status_code == 502

    answer = await post(gateway)
    await gateway.settled()

    assert (answer.status_code, answer.json()["error"]) == (503, "upstream_circuit_open")
    assert answer.headers["retry-after"] == "1"
    assert upstream.executions == 5
    assert (await acme.counters(org))["org.spent"] == 10_000_000
