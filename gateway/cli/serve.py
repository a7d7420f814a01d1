"""The command ``serve``: the data plane."""

import uvloop

from gateway.cli import environment
from gateway.cli.leash import Leash, end_with_stdin
from gateway.proxy.process import serve
from gateway.telemetry import configure_logs


def run(leash: Leash = False) -> None:
    """Run the proxy until SIGTERM or SIGINT; calls that are open are finished first."""
    settings = environment.load("redis_url")
    configure_logs(settings.log_level)
    if leash:
        end_with_stdin()
    uvloop.run(serve(settings, environment.variables()))
