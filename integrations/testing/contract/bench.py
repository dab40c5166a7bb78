"""What every rule of the contract is tried on: the adapter, its fake, an event, and what an author may add to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar, NoReturn

import pytest

import eventbus.topics  # noqa: F401  # fills the catalogue
from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.payload import Payload
from integrations.base import Integration, Notification
from integrations.testing.contract.webhooks import Webhooks
from integrations.testing.fake import FakeService
from integrations.testing.rig import Rig, Worker, at_work, connected
from integrations.testing.rules import Verdict, rule_of


class Bench:
    """`adapter`, `fake` and `event` must be given; `event` must cause one effect at the fake.

    notification  one that is sent, where it has to name a target
    inbound       how the service's webhooks are made and signed, for an adapter that takes some
    has_service   False for an adapter that reaches nothing outside its process
    """

    adapter: ClassVar[type[Integration[Any]]]
    fake: ClassVar[type[FakeService]]
    event: ClassVar[Event[Any]]
    notification: ClassVar[Notification] = Notification(message="The disk of db-1 is almost full.")
    inbound: ClassVar[Webhooks | None] = None
    has_service: ClassVar[bool] = True

    def another(self, number: int) -> Event[Any]:
        """An event like `event` about another thing: it too causes one effect, of its own.

        The field that orders the events of its topic is changed. Override it where that is not enough.
        """
        event, data = self.event, self.event.data
        field = data.__key_field__ if isinstance(data, Payload) else None
        if field is not None:
            data = data.model_copy(update={field: f"{getattr(data, field)}-{number}"})
            return catalog.event(event.topic, data, source=event.source, subject=event.subject)
        key = event.key and f"{event.key}-{number}"
        return catalog.event(event.topic, data, source=event.source, subject=event.subject, key=key)

    def keep_limits(self, service: FakeService) -> None:
        """Make the fake refuse what is over the limits that the service publishes, where it does not do so anyway."""

    @pytest.fixture
    async def service(self) -> AsyncIterator[FakeService]:
        """The fake, running."""
        async with self.fake() as service:
            yield service

    @pytest.fixture
    async def rig(self, service: FakeService) -> AsyncIterator[Rig]:
        """The adapter, initialised from `service.settings()`."""
        async with connected(self.adapter, service) as adapter:
            yield Rig(adapter, service)

    @pytest.fixture
    async def worker(self, service: FakeService) -> AsyncIterator[Worker]:
        """The adapter at work behind a real dispatcher, which takes the topic of `event`."""
        async with at_work(self.adapter, service, self.event.topic) as worker:
            yield worker

    @pytest.fixture(autouse=True)
    def _rule_applies(self, request: pytest.FixtureRequest) -> None:
        rule = rule_of(type(self), request.node.originalname)
        if rule is not None and rule.needs_service and not self.has_service:
            not_applicable("it has no service")


def not_applicable(why: str) -> NoReturn:
    """Skip a test whose rule has nothing to say about this adapter."""
    pytest.skip(f"{Verdict.NOT_APPLICABLE}: {why}")


def not_shown(why: str) -> NoReturn:
    """Skip a test that would apply, and for which something is missing: the adapter does not earn the rule."""
    pytest.skip(f"{Verdict.NOT_SHOWN}: {why}")
