"""Two thousand calls from four processes race through two gateways for one budget."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from gateway.domain.money import microcents_from_cents
from gateway.ledger.pool import open_pool
from tests.house.sources import ROOT
from tests.proxy import acme
from tests.proxy.gateways import ProcessGateway, process_gateway
from tests.race.invokers import AGENTS
from tests.stub_upstream import Received, StubUpstream, stub_upstream
from tests.until import until
from tests.upstream_answers import Answering, bytes_answer
from workers.journal_pump import JournalPump, PumpMetrics

PROCESSES, CALLERS, GATEWAYS = 4, 500, 2
# Less than half of what the callers ask for, so that most of them are denied.
LIMIT_CENTS = "1500.000003"
LIMIT_MICROCENTS = 1_500_000_003
FLAT_MICROCENTS = 2_000_000
CEILING_MICROCENTS = 5_000_000


class Bill:
    """What the upstream has run, and what that has cost by its own account."""

    def __init__(self) -> None:
        self.microcents = dict.fromkeys(AGENTS, 0)
        self._chance = random.Random(1)

    def answer(self, received: Received) -> Answering:
        """Run a call; the agent that reports names a cost below its ceiling."""
        if received.path.startswith(b"/flat/"):
            self.microcents["flat"] += FLAT_MICROCENTS
            return bytes_answer(b"{}")
        cost = self._chance.randrange(CEILING_MICROCENTS + 1)
        self.microcents["reported"] += cost
        return bytes_answer(b"{}", headers={"budget-cost": f"{Decimal(cost).scaleb(-6):f}"})


@pytest.fixture
async def upstream() -> AsyncIterator[StubUpstream]:
    """Yield the upstream of both agents."""
    async with stub_upstream() as stub:
        yield stub


@pytest.fixture
async def gateways(
    redis: Any, redis_url: str, upstream: StubUpstream, tmp_path: Path
) -> AsyncIterator[list[ProcessGateway]]:
    """Yield two gateway processes before acme, which may spend its limit in a month."""
    fields = {"status": "active", "org.month.limit_cents": LIMIT_CENTS}
    await acme.write_org(redis, **fields)
    flat = {"mode": "flat", "cents": "2"}
    await acme.write_agent(redis, "flat", f"{upstream.url}/flat", flat)
    reported = {"mode": "reported", "ceiling_cents": "5"}
    await acme.write_agent(redis, "reported", f"{upstream.url}/reported", reported)
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                process_gateway(
                    redis_url, tmp_path / str(number), GATEWAY_STORE_DEADLINE_MS="10000"
                )
            )
            for number in range(GATEWAYS)
        ]


async def race(gateways: list[ProcessGateway], seed: int) -> list[dict[str, Any]]:
    """Run one process of callers and return what its calls were answered."""
    ports = [str(gateway.port) for gateway in gateways]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.race.invokers", str(CALLERS), str(seed), *ports),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    answers: list[dict[str, Any]] = orjson.loads(out)
    return answers


@pytest.mark.timeout(120)
async def test_race_through_two_gateways(
    redis: Any, database_url: str, upstream: StubUpstream, gateways: list[ProcessGateway]
) -> None:
    """Not a call above the limit runs, none that fits is denied, and all accounts are equal."""
    bill = Bill()
    upstream.answers(bill.answer)

    processes = await asyncio.gather(*(race(gateways, seed) for seed in range(PROCESSES)))
    answers = [answer for answers in processes for answer in answers]

    async def is_settled() -> bool:
        return not await redis.zcard("bg:expiry")

    await until(is_settled, "every call to be settled")
    total = sum(bill.microcents.values())
    admitted = [answer for answer in answers if answer["status"] == 200]
    refused = [answer["problem"] for answer in answers if answer["status"] != 200]
    wrongly = [problem for problem in refused if not _had_to_be_refused(problem)]

    assert len(answers) == PROCESSES * CALLERS
    assert len(admitted) == upstream.executions
    assert len({answer["id"] for answer in admitted}) == len(admitted)
    assert sum(microcents_from_cents(answer["cost"]) or 0 for answer in admitted) == total
    assert LIMIT_MICROCENTS / 3 < total <= LIMIT_MICROCENTS
    assert wrongly == []
    assert await acme.counters(redis) == {
        "org.spent": total,
        **{f"agent.{agent}.spent": amount for agent, amount in bill.microcents.items()},
    }
    assert await _ledger(redis, database_url) == {"": total, **bill.microcents}
    assert [await gateway.stop() for gateway in gateways] == [0] * GATEWAYS


def _had_to_be_refused(problem: dict[str, Any]) -> bool:
    """Say whether a refusal is right by the numbers that the script saw at its instant."""
    limit, spent, held, requested = (
        round(problem[name] * 1_000_000)
        for name in ("limit_cents", "current_usage_cents", "held_cents", "requested_cents")
    )
    if problem["error"] == "budget_held":
        return bool(spent + requested <= limit < spent + held + requested)
    return bool(problem["error"] == "budget_exceeded" and limit < spent + requested)


async def _ledger(redis: Any, database_url: str) -> dict[str, int]:
    """Post the journal and return what the ledger says that org and agents have spent."""
    pool = await open_pool(database_url)
    pump = JournalPump(redis, pool, "w1", PumpMetrics(CollectorRegistry()))
    await pump.start()
    while await pump.step():
        pass
    rows = await pool.fetch(
        "SELECT agent, spent_microcents FROM spend_window WHERE \"window\" = 'total'"
    )
    entries = await pool.fetchval("SELECT sum(amount_microcents) FROM usage_entry")
    await pool.close()
    spent = {row["agent"]: row["spent_microcents"] for row in rows}
    assert entries == spent[""]
    return spent
