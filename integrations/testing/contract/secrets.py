"""Rule 10: no secret of the settings is ever shown, wherever people may look and whatever the service answers."""

from __future__ import annotations

import json
import traceback
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog.testing
from pydantic import BaseModel

from eventbus.event import Event
from integrations.base import Integration
from integrations.redact import secrets_in
from integrations.testing.contract.bench import Bench, not_applicable
from integrations.testing.contract.settings import invalid
from integrations.testing.fake import FakeService
from integrations.testing.rig import Rig, Worker, at_work, connected
from integrations.testing.rules import rule

CANARY = "canary-of-a-secret-0123456789abcdef"


class SecretRules(Bench):
    """The fake's own secrets are the canaries; a secret setting that the fake leaves out gets one, if it takes it."""

    @rule(10)
    async def test_no_secret_is_ever_shown(
        self, service: FakeService, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        caplog.set_level("DEBUG")
        shown: list[str] = []
        with structlog.testing.capture_logs() as lines:
            async with connected(self.adapter, service, self._with_canaries(service)) as adapter:
                secrets = self._secrets(adapter.config)
                shown += [repr(adapter), repr(adapter.config), str(adapter.config), repr(adapter.context)]
                shown += _previewed(Rig(adapter, service), self.event)
                async for outcome in _every_outcome(Rig(adapter, service), self.event):
                    shown.append(_everything_about(outcome))
        self._check(secrets, [*shown, repr(lines), caplog.text, *capsys.readouterr()])

    @rule(10)
    async def test_no_secret_is_in_what_a_worker_tells_and_keeps(
        self, service: FakeService, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The service repeats in its error what it was sent, as some do."""
        caplog.set_level("DEBUG")
        with structlog.testing.capture_logs() as lines:
            settings = self._with_canaries(service)
            async with at_work(self.adapter, service, self.event.topic, settings=settings) as worker:
                shown = await self._told_and_kept(worker)
                secrets = self._secrets(worker.account.config)
        self._check(secrets, [*shown, repr(lines), caplog.text, *capsys.readouterr()])

    async def _told_and_kept(self, worker: Worker) -> list[str]:
        service, events = worker.service, [self.another(number) for number in range(4)]
        await worker.bring(events[0])
        said = _repeated(service)
        for event, status in zip(events[1:], (400, 422, 500), strict=True):
            service.fail(status, body=said, headers={"Content-Type": "application/json"})
            await worker.bring(event)
        service.reject_credentials = True
        health = await worker.registry.health()
        service.reject_credentials = False
        kept = [line for event in events for line in await worker.trail(event)]
        return [json.dumps(kept), repr(health), repr(await worker.dead()), worker.metrics.exposition().decode()]

    def _with_canaries(self, service: FakeService) -> dict[str, Any]:
        model, settings = self.adapter.manifest.config, service.settings()
        for name, field in model.model_fields.items():
            if name not in settings and "SecretStr" in str(field.annotation):
                fuller = settings | {name: f"{CANARY}-{name}"}
                settings = settings if invalid(model, fuller) else fuller
        return settings

    def _secrets(self, config: BaseModel) -> set[str]:
        secrets = set(secrets_in(config))
        if not secrets and not self.has_service:
            not_applicable("it has no secrets")
        assert secrets, "the settings hold no SecretStr: make what must not be shown one, or override this test"
        return secrets

    def _check(self, secrets: set[str], shown: list[str]) -> None:
        for text in shown:
            found = next((secret for secret in secrets if secret in text), None)
            if found is not None:
                at = text.index(found)
                around = text[max(0, at - 80) : at] + "[here]" + text[at + len(found) : at + len(found) + 40]
                pytest.fail(f"a secret of the settings stands in a log, repr, error or record: ...{around}...")


def _previewed(rig: Rig, event: Event[Any]) -> list[str]:
    if type(rig.adapter).preview is Integration.preview:
        return []
    return [repr(one) for one in rig.adapter.preview(event, rig.delivery("delivery-1"))]


def _repeated(service: FakeService) -> str:
    """All that the service was sent so far, as the text of its error."""
    sent = [f"{one.path} {one.headers} {one.body.decode('utf-8', 'replace')}" for one in service.requests]
    return json.dumps({"message": " ".join(sent), "error": " ".join(sent), "errors": sent})


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
