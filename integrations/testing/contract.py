"""The contract every adapter keeps, as tests. Subclass it, name your adapter and its fake, and run pytest:

    class TestAcme(AdapterContract):
        adapter = Acme
        fake = FakeAcme
        event = catalog.event(VmFailed(vm_id="vm-1", error="no host"))

It needs pytest, and pytest-asyncio in its auto mode; nothing else here does. What an adapter does with a particular
answer beyond these rules belongs into its own tests. An adapter without a service has nothing to be held to here.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog.testing
from pydantic import BaseModel, SecretStr, ValidationError

import eventbus.topics  # noqa: F401  # fills the catalogue
from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.pattern import is_wildcard, matches_any
from integrations.base import Context, Delivery, DeliveryResult, Integration, Outcome, Reconciles, Subscribes
from integrations.errors import AuthFailed, IntegrationError, OutcomeUnknown, RateLimited, Rejected, ServiceFault
from integrations.testing.context import make_context
from integrations.testing.fake import FakeService

HEALTH_SECONDS = 5.0
"""`health()` answers within this, however dead the service is: a status command waits for it."""


@dataclass(frozen=True, slots=True)
class Rig:
    """An initialised adapter in front of its running fake."""

    adapter: Integration[Any]
    service: FakeService

    async def handle(self, event: Event[Any], key: str = "delivery-1", attempt: int = 1) -> DeliveryResult:
        """`handle_event` for the adapter's first target."""
        targets = self.adapter.targets() if isinstance(self.adapter, Subscribes) else ()
        target = targets[0].name if targets else "default"
        return await self.adapter.handle_event(event, Delivery(key, target, attempt))

    async def outcome(self, event: Event[Any], key: str = "delivery-1") -> DeliveryResult | IntegrationError:
        """The result or the error of `handle`, whichever it is. Anything else is a fault of the adapter."""
        try:
            return await self.handle(event, key)
        except IntegrationError as error:
            return error


class AdapterContract:
    """Subclass it as the module says. `event` must cause one effect at the fake."""

    adapter: ClassVar[type[Integration[Any]]]
    fake: ClassVar[type[FakeService]]
    event: ClassVar[Event[Any]]

    @pytest.fixture
    async def service(self) -> AsyncIterator[FakeService]:
        """The fake, running."""
        async with self.fake() as service:
            yield service

    @pytest.fixture
    async def rig(self, service: FakeService) -> AsyncIterator[Rig]:
        """The adapter, initialised from `service.settings()`."""
        async with _connected(self.adapter, service) as adapter:
            yield Rig(adapter, service)

    # -- settings --------------------------------------------------------------------------------------------------

    def test_a_missing_setting_is_reported_by_its_name(self, service: FakeService) -> None:
        model, settings = self.adapter.manifest.config, service.settings()
        required = set(model.model_json_schema().get("required", ()))
        assert required <= set(settings), f"the fake's settings lack {required - set(settings)}"
        for name in settings:
            error = _invalid(model, {key: value for key, value in settings.items() if key != name})
            assert error is None or name in error, f"the error for a missing {name} does not name it: {error}"

    def test_the_readme_names_every_setting(self) -> None:
        readme = Path(inspect.getfile(self.adapter)).with_name("README.md")
        assert readme.is_file(), f"{readme} is missing: say there what the adapter is for and how it is set up"
        text = readme.read_text("utf-8")
        missing = [name for name in _settings_of(self.adapter.manifest.config) if name not in text]
        assert not missing, f"{readme} does not name these settings: {', '.join(missing)}"

    # -- health ----------------------------------------------------------------------------------------------------

    async def test_health_is_healthy_while_the_service_is_up(self, rig: Rig) -> None:
        health = await rig.adapter.health()
        assert health.state == "healthy", f"the service is up, and health says {health}"

    async def test_health_is_not_healthy_while_the_service_is_out_of_order(self, rig: Rig) -> None:
        rig.service.go_down()
        async with asyncio.timeout(HEALTH_SECONDS):
            health = await rig.adapter.health()
        assert health.state != "healthy", "the service answers 503 to everything, and health says healthy"
        rig.service.come_back()
        assert (await rig.adapter.health()).state == "healthy", "the service is back, and health does not see it"

    async def test_health_is_not_healthy_when_nothing_listens(self, rig: Rig) -> None:
        await rig.service.__aexit__(None, None, None)
        async with asyncio.timeout(HEALTH_SECONDS):
            health = await rig.adapter.health()
        assert health.state != "healthy", "the service's port is closed, and health says healthy"

    async def test_a_service_that_is_down_does_not_keep_the_adapter_from_starting(self, service: FakeService) -> None:
        service.go_down()
        async with _connected(self.adapter, service) as adapter:
            service.come_back()
            result = await Rig(adapter, service).outcome(self.event)
        assert isinstance(result, DeliveryResult), f"started during an outage, the adapter then raised {result!r}"

    # -- effects ---------------------------------------------------------------------------------------------------

    async def test_one_event_makes_one_effect(self, rig: Rig) -> None:
        result = await rig.handle(self.event)
        assert result.outcome is Outcome.DELIVERED, f"the service did its part, and the result is {result}"
        assert len(rig.service.effects()) == 1, f"one event made these effects: {rig.service.effects()}"

    async def test_every_topic_it_takes_is_rendered(self, rig: Rig) -> None:
        for event in _examples(self.adapter.manifest.handles):
            result = await rig.outcome(event, key=f"delivery-of-{event.topic}")
            told = isinstance(result, DeliveryResult | IntegrationError)
            assert told, f"the example of {event.topic} became {result!r}"

    async def test_a_repeated_key_makes_no_second_effect_where_the_manifest_says_so(self, rig: Rig) -> None:
        if self.adapter.manifest.effects not in ("keyed", "repeatable"):
            pytest.skip("the service can't know a repeat; the ledger prevents it")
        await rig.handle(self.event)
        await rig.handle(self.event)
        assert len(rig.service.effects()) == 1, f"one key made these effects: {rig.service.effects()}"

    # -- what the service answers ----------------------------------------------------------------------------------

    async def test_a_rate_limit_is_passed_on_with_its_time(self, rig: Rig) -> None:
        rig.service.fail(429, headers={"Retry-After": "7"})
        result = await rig.outcome(self.event)
        limited = isinstance(result, RateLimited) or getattr(result, "outcome", None) is Outcome.RETRY
        assert limited, f"429 became {result!r}"
        assert result.retry_after == timedelta(seconds=7), f"Retry-After: 7 became {result.retry_after}"

    @pytest.mark.parametrize("status", [500, 502])
    async def test_a_fault_of_the_service_is_worth_another_attempt(self, rig: Rig, status: int) -> None:
        rig.service.fail(status)
        result = await rig.outcome(self.event)
        assert isinstance(result, ServiceFault | OutcomeUnknown), f"{status} became {result!r}"
        assert rig.service.effects() == [], "the service failed before it did anything"
        assert len(rig.service.requests) == 1, "only the dispatcher tries again; the adapter did"

    @pytest.mark.parametrize("status", [400, 422])
    async def test_a_refused_request_is_refused_for_good(self, rig: Rig, status: int) -> None:
        rig.service.fail(status)
        result = await rig.outcome(self.event)
        refused = isinstance(result, Rejected) or getattr(result, "outcome", None) is Outcome.REJECTED
        assert refused, f"{status} became {result!r}"

    async def test_refused_credentials_are_told_apart(self, rig: Rig) -> None:
        rig.service.reject_credentials = True
        result = await rig.outcome(self.event)
        assert isinstance(result, AuthFailed), f"refused credentials became {result!r}"
        assert (await rig.adapter.health()).state in ("healthy", "degraded", "unhealthy")

    async def test_a_lost_answer_leaves_the_outcome_unknown(self, rig: Rig) -> None:
        await self._lose_the_answer(rig, committed=True)
        assert len(rig.service.effects()) == 2, "the fake was told to carry the request out"

    async def test_an_effect_whose_answer_was_lost_is_found(self, rig: Rig) -> None:
        await self._lose_the_answer(rig, committed=True)
        found = await self._reconciler(rig).find(self.event, Delivery("delivery-1"))
        assert found is not None, "the effect exists at the service, and find says that it surely does not"
        assert found.outcome in (Outcome.DELIVERED, Outcome.DUPLICATE), f"the effect exists, and find says {found}"

    async def test_an_effect_that_never_came_to_be_is_not_found(self, rig: Rig) -> None:
        await self._lose_the_answer(rig, committed=False)
        found = await self._reconciler(rig).find(self.event, Delivery("delivery-1"))
        assert found is None, f"no effect of this key exists at the service, and find says {found}"

    async def test_a_look_up_that_fails_is_not_taken_for_absence(self, rig: Rig) -> None:
        reconciler = self._reconciler(rig)
        rig.service.go_down()
        with pytest.raises(IntegrationError):
            await reconciler.find(self.event, Delivery("delivery-1"))

    async def _lose_the_answer(self, rig: Rig, *, committed: bool) -> None:
        await rig.handle(self.event, key="delivery-0")  # what an adapter looks up once is looked up now
        rig.service.swallow("after" if committed else "before")
        result = await rig.outcome(self.event)
        unknown = isinstance(result, OutcomeUnknown) or getattr(result, "outcome", None) is Outcome.UNKNOWN
        assert unknown, f"no answer came to a request that had left, and that became {result!r}"

    def _reconciler(self, rig: Rig) -> Reconciles:
        if self.adapter.manifest.effects != "searchable":
            pytest.skip("the manifest promises no look-up")
        assert isinstance(rig.adapter, Reconciles), "the manifest says searchable, and the adapter has no find()"
        return rig.adapter

    # -- secrets and sockets ---------------------------------------------------------------------------------------

    async def test_no_secret_is_ever_shown(
        self, service: FakeService, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        caplog.set_level("DEBUG")
        secrets: set[str] = set()
        shown: list[str] = []
        with structlog.testing.capture_logs() as lines:
            async with _connected(self.adapter, service) as adapter:
                secrets.update(_secrets_in(adapter.config))
                shown += [repr(adapter), repr(adapter.config), str(adapter.config), repr(adapter.context)]
                async for outcome in _every_outcome(Rig(adapter, service), self.event):
                    shown.append(_everything_about(outcome))
        assert secrets, "the settings hold no SecretStr: make what must not be shown one, or override this test"
        text = "\n".join([*shown, repr(lines), caplog.text, *capsys.readouterr()])
        assert not any(secret in text for secret in secrets), "a secret of the settings stands in a log, repr or error"

    async def test_close_may_be_called_twice_and_leaves_nothing_running(self, service: FakeService) -> None:
        before = asyncio.all_tasks()
        async with _connected(self.adapter, service) as adapter:
            await Rig(adapter, service).handle(self.event)
            await adapter.close()
        left = asyncio.all_tasks() - before
        if left:
            _, left = await asyncio.wait(left, timeout=1)
        assert not left, f"these tasks outlive the adapter: {left}"

    async def test_close_may_be_called_on_an_adapter_that_was_never_initialised(self) -> None:
        await self.adapter().close()


@asynccontextmanager
async def _connected(adapter: type[Integration[Any]], service: FakeService) -> AsyncIterator[Integration[Any]]:
    context: Context[Any] = make_context(adapter, service.settings())
    one = adapter()
    try:
        await one.initialize(context)
        yield one
    finally:
        await one.close()
        await context.http.close()


def _invalid(model: type[BaseModel], settings: Mapping[str, Any]) -> str | None:
    """What is wrong with the settings; None when nothing is."""
    try:
        model.model_validate(settings)
    except ValidationError as error:
        return str(error)
    return None


def _examples(patterns: Iterable[str]) -> Iterator[Event[Any]]:
    """The catalogue's example for every topic that the patterns take; a family is shown by a topic `example`.

    A payload class that offers no example shows nothing.
    """
    topics = {pattern for pattern in patterns if not is_wildcard(pattern)}
    topics |= {cls.__topic__.replace("*", "example").replace(">", "example") for cls in catalog}
    for topic in sorted(topic for topic in topics if matches_any(patterns, topic)):
        cls = catalog.find(topic)
        example = None if cls is None else cls.example()
        if cls is None or example is not None:
            yield catalog.event(topic, example)


def _settings_of(model: type[BaseModel]) -> list[str]:
    """The names of a config's fields, those of the models inside it too."""
    schema = model.model_json_schema()
    return [name for part in (schema, *schema.get("$defs", {}).values()) for name in part.get("properties", {})]


def _secrets_in(value: object) -> Iterator[str]:
    """The text of every SecretStr, however deep."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        yield from _secrets_in([getattr(value, name) for name in type(value).model_fields])
    elif isinstance(value, Mapping):
        yield from _secrets_in(list(value.values()))
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _secrets_in(item)


async def _every_outcome(rig: Rig, event: Event[Any]) -> AsyncIterator[object]:
    """An adapter at work with a service that does well, refuses, fails, vanishes and dies."""
    yield await rig.outcome(event, "delivery-well")
    for status in (302, 400, 401, 403, 404, 422, 429, 500):
        rig.service.fail(status, body="no")
        yield await rig.outcome(event, f"delivery-{status}")
    rig.service.swallow("before")
    yield await rig.outcome(event, "delivery-swallowed")
    rig.service.come_back()
    yield await rig.adapter.health()
    rig.service.go_down()
    yield await rig.adapter.health()
    rig.service.come_back()
    await rig.service.__aexit__(None, None, None)
    yield await rig.outcome(event, "delivery-unreachable")
    yield await rig.adapter.health()


def _everything_about(outcome: object) -> str:
    if isinstance(outcome, BaseException):
        return repr(outcome) + "".join(traceback.format_exception(outcome))
    return repr(outcome)
