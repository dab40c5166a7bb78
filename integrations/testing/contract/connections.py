"""Rules 11 and 13: who is contacted, and what is left when it is over."""

from __future__ import annotations

import asyncio

import pytest

from integrations.testing.contract.bench import Bench
from integrations.testing.fake import FakeService
from integrations.testing.network import Network
from integrations.testing.rig import Rig, connected, until
from integrations.testing.rules import rule

CLOSING_SECONDS = 1.0


class ConnectionRules(Bench):
    """Below every library: at the sockets and the tasks of this process."""

    @rule(11)
    async def test_only_the_hosts_of_the_settings_are_contacted(
        self, service: FakeService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        network = Network(service.settings(), monkeypatch)
        async with connected(self.adapter, service) as adapter:
            rig = Rig(adapter, service)
            await rig.outcome(self.event)
            await adapter.health()
            service.fail(302, headers={"Location": "http://elsewhere.example/"})
            await rig.outcome(self.another(0), "delivery-0")
            service.reject_credentials = True
            await rig.outcome(self.another(1), "delivery-2")
        assert not network.strangers, f"contacted, and none of the hosts in the settings: {sorted(network.strangers)}"
        assert network.contacted, "the adapter never contacted its service through a socket of Python's"

    @rule(13)
    async def test_close_may_be_called_twice_and_leaves_nothing_running(self, service: FakeService) -> None:
        before = asyncio.all_tasks()
        async with connected(self.adapter, service) as adapter:
            await Rig(adapter, service).handle(self.event)
            await adapter.close()
        left = asyncio.all_tasks() - before
        if left:
            _, left = await asyncio.wait(left, timeout=CLOSING_SECONDS)
        assert not left, f"these tasks outlive the adapter: {left}"

    @rule(13)
    async def test_close_leaves_no_socket_open(self, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
        network = Network(service.settings(), monkeypatch)
        async with connected(self.adapter, service) as adapter:
            await Rig(adapter, service).handle(self.event)
            await adapter.health()
        await until(
            lambda: not network.open_sockets, f"every socket is closed: {network.open_sockets}", CLOSING_SECONDS
        )

    @rule(13)
    async def test_close_may_be_called_on_an_adapter_that_was_never_initialised(self) -> None:
        await self.adapter().close()
