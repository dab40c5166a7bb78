"""Rule 2: health says how the service is now, soon and without raising."""

from __future__ import annotations

import asyncio

from integrations.base import DeliveryResult
from integrations.testing.contract.bench import Bench
from integrations.testing.fake import FakeService
from integrations.testing.rig import Rig, connected
from integrations.testing.rules import rule

HEALTH_SECONDS = 5.0
"""`health()` answers within this, however dead the service is: a status command waits for it."""


class HealthRules(Bench):
    """Green while the service is up, and only then; and a dead service keeps nobody from starting."""

    @rule(2)
    async def test_health_is_healthy_while_the_service_is_up(self, rig: Rig) -> None:
        health = await rig.adapter.health()
        assert health.state == "healthy", f"the service is up, and health says {health}"

    @rule(2)
    async def test_health_is_not_healthy_while_the_service_is_out_of_order(self, rig: Rig) -> None:
        rig.service.go_down()
        async with asyncio.timeout(HEALTH_SECONDS):
            health = await rig.adapter.health()
        assert health.state != "healthy", "the service answers 503 to everything, and health says healthy"
        rig.service.come_back()
        assert (await rig.adapter.health()).state == "healthy", "the service is back, and health does not see it"

    @rule(2)
    async def test_health_is_not_healthy_when_nothing_listens(self, rig: Rig) -> None:
        await rig.service.__aexit__(None, None, None)
        async with asyncio.timeout(HEALTH_SECONDS):
            health = await rig.adapter.health()
        assert health.state != "healthy", "the service's port is closed, and health says healthy"

    @rule(2)
    async def test_a_service_that_is_down_does_not_keep_the_adapter_from_starting(self, service: FakeService) -> None:
        service.go_down()
        async with connected(self.adapter, service) as adapter:
            service.come_back()
            result = await Rig(adapter, service).outcome(self.event)
        assert isinstance(result, DeliveryResult), f"started during an outage, the adapter then raised {result!r}"
