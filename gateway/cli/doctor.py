"""The command ``doctor``: everything that can be looked at before it hurts, in one table."""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal, NamedTuple

import asyncpg
import typer

from gateway.budgets.node import check_server
from gateway.budgets.profile import read_profile
from gateway.cli import environment, output
from gateway.cli.clients import open_clients, open_ledger, open_redis
from gateway.cli.healthcheck import ask, ops_port
from gateway.cli.migrate import node_of
from gateway.errors import ConfigError, GatewayError, LedgerError, StoreError
from gateway.ledger.durability import check_durability
from gateway.ledger.epochs import current_epoch
from gateway.ledger.migrations import migrations
from gateway.proxy.listener import bind
from gateway.registry.clients import Clients
from gateway.registry.limits import check_limits
from gateway.registry.orgs import list_orgs
from gateway.settings import Settings, read_settings

_SKEW_MS_MAX = 1000
_NO_MARKER = "Redis has no marker; run `budget-gateway migrate`, or `rebuild` after a loss."


class Check(NamedTuple):
    """One thing that was looked at; ``unreachable`` is a server that did not answer."""

    subject: str
    state: Literal["ok", "warn", "fail", "unreachable"]
    says: str


def run(as_json: output.AsJson = False) -> None:
    """Check settings, stores, limits and ports: exit code 0, 3 a check failed, 4 no server."""
    checks = asyncio.run(_all())
    failed = any(check.state == "fail" for check in checks)
    unreachable = any(check.state == "unreachable" for check in checks)
    document = {"ok": not (failed or unreachable), "checks": checks}
    output.show(document, output.table(Check._fields, checks), as_json=as_json)
    if unreachable:
        raise typer.Exit(output.UNREACHABLE)
    if failed:
        raise typer.Exit(output.CHECK_FAILED)


async def _all() -> list[Check]:
    try:
        settings, warnings = read_settings(environment.variables())
    except ConfigError as error:
        return [Check("settings", "fail", str(error))]
    checks = [Check("settings", "warn", warning) for warning in warnings]
    checks = checks or [Check("settings", "ok", "Every GATEWAY_* name is known.")]
    stores = [*await _kept("redis", _redis(settings)), *await _kept("postgres", _ledger(settings))]
    if not any(check.state in ("fail", "unreachable") for check in stores):
        stores += await _kept("limits", _limits(settings))
    return [*checks, *stores, *_ports(settings)]


async def _kept(subject: str, found: AsyncGenerator[Check]) -> list[Check]:
    """Return what was found, and as the last check the fault that ended the search, if one did."""
    checks = []
    async with aclosing(found):
        try:
            async for check in found:
                checks.append(check)
        except (StoreError, LedgerError) as error:
            checks.append(Check(subject, "unreachable", str(error)))
        except GatewayError as error:
            checks.append(Check(subject, "fail", str(error)))
    return checks


async def _redis(settings: Settings) -> AsyncGenerator[Check]:
    async with open_redis(settings) as redis:
        yield Check("redis", "ok", "Redis answers.")
        for finding in await check_server(redis):
            state: Literal["fail", "warn"] = "fail" if finding.severity == "refuse" else "warn"
            yield Check("redis", state, str(finding))
        profile = await read_profile(redis)
        kept = profile.name in ("standard", "strict")
        yield Check("durability", "ok" if kept else "warn", profile.says)
        before_ms = time.time_ns() // 1_000_000
        seconds, microseconds = await redis.time()
        skew_ms = (before_ms + time.time_ns() // 1_000_000) // 2 - (
            seconds * 1000 + microseconds // 1000
        )
        yield Check(
            "clock",
            "ok" if abs(skew_ms) <= _SKEW_MS_MAX else "fail",
            f"This clock is {skew_ms} ms ahead of Redis; expected at most {_SKEW_MS_MAX} ms.",
        )
        node = await node_of(redis)
        if node is None:
            yield Check("marker", "fail", _NO_MARKER)
        else:
            yield Check("marker", "ok", f"Epoch {node.epoch} counts {', '.join(node.windows)}.")


async def _limits(settings: Settings) -> AsyncGenerator[Check]:
    async with open_clients(settings) as clients:
        yield await _epoch(clients)
        for org in await list_orgs(clients):
            problems = await check_limits(clients, org.org)
            for sentence in problems.values():
                yield Check(f"limits of {org.org}", "fail", sentence)
            if not problems:
                yield Check(f"limits of {org.org}", "ok", "Every field is known and valid.")


async def _epoch(clients: Clients) -> Check:
    node, epoch = await node_of(clients.redis), await current_epoch(clients.ledger)
    if epoch is None:
        return Check("epoch", "fail", "The ledger knows no epoch; run `budget-gateway migrate`.")
    if node is None or node.epoch != epoch.epoch:
        found = node.epoch if node else "none"
        return Check(
            "epoch",
            "fail",
            f"Redis is of epoch {found}; expected {epoch.epoch}, as Postgres has: check "
            "GATEWAY_REDIS_URL, or run `budget-gateway rebuild` where an older file was restored.",
        )
    return Check("epoch", "ok", "Redis is the one that Postgres knows.")


async def _ledger(settings: Settings) -> AsyncGenerator[Check]:
    async with open_ledger(settings) as pool:
        yield Check("postgres", "ok", "Postgres answers.")
        for finding in await check_durability(pool):
            yield Check("postgres", "warn", finding)
        yield await _migrations(pool)


async def _migrations(pool: asyncpg.Pool) -> Check:
    applied = dict[str, str]()
    if await pool.fetchval("SELECT to_regclass('migration')"):
        rows = await pool.fetch("SELECT name, checksum FROM migration")
        applied = {row["name"]: row["checksum"] for row in rows}
    for name, statements in migrations().items():
        if name not in applied:
            return Check("migrations", "fail", f"{name} is missing; run `budget-gateway migrate`.")
        if applied[name] != hashlib.sha256(statements.encode()).hexdigest():
            return Check("migrations", "fail", f"{name} was edited after it had been applied.")
    return Check("migrations", "ok", f"All {len(applied)} are applied.")


def _ports(settings: Settings) -> list[Check]:
    places = {
        "GATEWAY_PORT": (settings.host, settings.port),
        "ops port of serve": (settings.ops_host, ops_port(settings, "serve")),
        "ops port of worker": (settings.ops_host, ops_port(settings, "worker")),
    }
    return [_port(name, *place) for name, place in places.items() if place[1]]


def _port(name: str, host: str, port: int) -> Check:
    try:
        bind(host, port, name).close()
    except ConfigError as error:
        # Taken by one of ours is as it should be, ready or not.
        health = ask(host, port)
        ours = health.ready or not health.says.startswith("Nothing answers")
        return Check(name, "ok" if ours else "fail", health.says if ours else str(error))
    return Check(name, "ok", f"{host}:{port} is free.")
