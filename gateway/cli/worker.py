"""The command ``worker``: journal pump, sweeper, outbox and the timetable."""

import uvloop

from gateway.cli import environment
from gateway.cli.leash import Leash, end_with_stdin
from gateway.telemetry import configure_logs
from workers.main import work


def run(leash: Leash = False) -> None:
    """Run the worker until SIGTERM or SIGINT; servers that go away are waited for."""
    settings = environment.load("redis_url", "database_url")
    configure_logs(settings.log_level)
    if leash:
        end_with_stdin()
    uvloop.run(work(settings))
