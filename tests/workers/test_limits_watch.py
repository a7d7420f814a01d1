"""What operators mistype is noticed: counted while it stands, and told once a day."""

from typing import Any

import asyncpg
import orjson
import pytest
from prometheus_client import CollectorRegistry

from gateway.registry.clients import Clients
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from workers.limits_watch import LimitsMetrics, look

LIMITS = "bg:{acme}:limits"


@pytest.fixture
async def clients(pool: asyncpg.Pool, redis: Any) -> Clients:
    """Return both stores with the org acme."""
    stores = Clients(pool, redis)
    await add_org(stores, "acme", "UTC", {"org.month.limit_cents": "5"}, Author("ops"))
    return stores


@pytest.fixture
def metrics(registry: CollectorRegistry) -> LimitsMetrics:
    """Return the metrics of the watch."""
    return LimitsMetrics(registry)


async def alerts(clients: Clients) -> list[str]:
    """Return the fields that alerts were raised for."""
    rows = await clients.ledger.fetch("SELECT detail->>'field' AS field FROM alert ORDER BY id")
    return [row["field"] for row in rows]


def invalid(registry: CollectorRegistry) -> float | None:
    """Return how many faults the metric shows."""
    return registry.get_sample_value("budget_gateway_invalid_limits")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("org.day.limit_cents", "1e3"),
        ("org.mnoth.limit_cents", "100"),
        ("agent.nobody.day.limit_cents", "100"),
        ("budget", "100"),
    ],
)
async def test_fault_is_counted_and_told_once(
    clients: Clients, metrics: LimitsMetrics, registry: CollectorRegistry, field: str, value: str
) -> None:
    """A malformed, misspelt or unused field is an alert, however often it is looked at."""
    await clients.redis.hset(LIMITS, field, value)

    await look(clients, metrics)
    await look(clients, metrics)

    assert await alerts(clients) == [field]
    assert invalid(registry) == 1


async def test_deleted_limits_are_told(
    clients: Clients, metrics: LimitsMetrics, registry: CollectorRegistry
) -> None:
    """A DEL of the hash refuses every call, and that is said."""
    await clients.redis.delete(LIMITS)

    await look(clients, metrics)

    assert await alerts(clients) == ["status", "org.<window>.limit_cents"]
    assert invalid(registry) == 2


async def test_mended_limits_are_no_fault(
    clients: Clients, metrics: LimitsMetrics, registry: CollectorRegistry
) -> None:
    """The metric falls when the field is mended; another wrong value is another alert."""
    await clients.redis.hset(LIMITS, "org.day.limit_cents", "nan")
    await look(clients, metrics)
    await clients.redis.hset(LIMITS, "org.day.limit_cents", "10")
    await look(clients, metrics)
    mended = invalid(registry)
    await clients.redis.hset(LIMITS, "org.day.limit_cents", "inf")
    await look(clients, metrics)

    assert mended == 0
    assert await alerts(clients) == ["org.day.limit_cents"] * 2


async def test_every_org_is_looked_at(
    clients: Clients, metrics: LimitsMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orgs that do not fit into one look come in the next one."""
    monkeypatch.setattr("workers.limits_watch._ORGS_PER_LOOK", 2)
    for number in range(5):
        org = f"org{number}"
        await add_org(clients, org, "UTC", {"org.day.limit_cents": "1"}, Author("ops"))
        await clients.redis.hset(f"bg:{{{org}}}:limits", "status", "open")

    await look(clients, metrics)

    assert await alerts(clients) == ["status"] * 5


@pytest.mark.parametrize("name", ["limits", "agents", "meta"])
async def test_key_of_another_type_hides_no_other_fault(
    clients: Clients, metrics: LimitsMetrics, name: str
) -> None:
    """What is wrong in the org beside it is told all the same."""
    await add_org(clients, "evil", "UTC", {"org.month.limit_cents": "5"}, Author("ops"))
    await clients.redis.hset("bg:{evil}:limits", "org.day.limit_cents", "nan")
    await clients.redis.set(f"bg:{{acme}}:{name}", "of another type")

    await look(clients, metrics)

    assert "org.day.limit_cents" in await alerts(clients)


async def test_limits_of_another_type_are_not_kept(
    clients: Clients, metrics: LimitsMetrics
) -> None:
    """A rebuild finds what was there before."""
    await look(clients, metrics)
    await clients.redis.set(LIMITS, "of another type")

    await look(clients, metrics)

    kept = await clients.ledger.fetchval("SELECT limits FROM limits_mirror WHERE org = 'acme'")
    assert orjson.loads(kept)["org.month.limit_cents"] == "5"
