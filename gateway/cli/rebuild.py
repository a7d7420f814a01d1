"""The command ``rebuild``: an empty Redis made again from Postgres."""

import asyncio

from gateway.cli import environment, output
from gateway.cli.clients import open_clients
from gateway.registry.rebuild import Rebuilt, rebuild


def run(as_json: output.AsJson = False) -> None:
    """Restore an empty Redis from Postgres; gateways answer 503 until a worker has compared it.

    Repeated after a crash it finishes the work.
    """
    rebuilt = asyncio.run(_rebuild())
    orgs = f"{rebuilt.orgs} {'org' if rebuilt.orgs == 1 else 'orgs'}"
    output.show(
        rebuilt,
        f"Redis: ready, epoch {rebuilt.epoch}. Restored {orgs}, {rebuilt.counters} counters, "
        f"{rebuilt.credits} credits. Gateways hold again what is open, and admit calls as soon as "
        "a worker has compared all of it.",
        as_json=as_json,
    )
    for org in rebuilt.closed:
        output.complain(
            f"Nobody knows the limits of {org}, so every call of it is refused: set them with "
            f"limits set {org} status=active org.month.limit_cents=N."
        )


async def _rebuild() -> Rebuilt:
    async with open_clients(environment.load()) as clients:
        return await rebuild(clients)
