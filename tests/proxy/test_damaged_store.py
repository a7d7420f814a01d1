"""A key of another type refuses, and whoever operates the gateway finds in its log why."""

from typing import Any

import structlog

from tests.proxy.gateways import PlaneGateway
from tests.stub_upstream import StubUpstream


async def test_limits_of_another_type_are_logged(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """The caller hears that the store cannot be used, the log in which org and what Redis says."""
    await org.delete("bg:{acme}:limits")
    await org.set("bg:{acme}:limits", "no hash")

    with structlog.testing.capture_logs() as logs:
        async with gateway.client() as client:
            answer = await client.post("/agents/researcher/invoke")

    (said,) = [log for log in logs if log["event"] == "reserve_failed"]
    assert (answer.status_code, upstream.executions) == (503, 0)
    assert (said["org"], said["agent"]) == ("acme", "researcher")
    assert "WRONGTYPE" in said["error"]
