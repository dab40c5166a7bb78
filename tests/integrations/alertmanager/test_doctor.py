"""What the doctor finds at Alertmanager, and what a drill leaves there: each check sees well and ill."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import pytest

from integrations.alertmanager import Alertmanager
from integrations.alertmanager.fake import CONFIG, FakeAlertmanager
from integrations.base import Delivery, Drills, Examined, Finding, Notification

Connect = Callable[..., Awaitable[Alertmanager]]
DRILL, DELIVERY = Notification(title="[drill]", message="Nothing is wrong."), Delivery("drill")


async def found(adapter: Alertmanager) -> dict[str, Finding]:
    assert isinstance(adapter, Examined)
    return {one.about: one for one in await adapter.examine()}


async def test_all_is_well_and_nothing_is_posted(fake: FakeAlertmanager, alertmanager: Alertmanager) -> None:
    every = await found(alertmanager)
    assert {one.level for one in every.values()} == {"ok"}, every
    assert list(every) == ["webhooks", "way", "version", "cluster", "config", "receiver", "clock"]
    assert every["version"].what == "0.34.0"
    assert every["config"].what == "resolve_timeout is 5m; an alert of ours says itself when it ends: 14,400 s"
    assert every["receiver"].what == "what no other route takes goes to team: slack"
    assert fake.posts == []


@pytest.mark.parametrize(("status", "level"), [(401, "fail"), (503, "fail"), (429, "warn")])
async def test_who_does_not_answer_is_asked_nothing_else(
    fake: FakeAlertmanager, alertmanager: Alertmanager, status: int, level: str
) -> None:
    fake.go_down(status)
    every = await found(alertmanager)
    assert list(every) == ["webhooks", "way"]
    assert every["way"].level == level
    assert ("token" in every["way"].fix) is (status == 401)


async def test_another_service_at_the_address_is_found(connect: Connect, fake: FakeAlertmanager) -> None:
    alertmanager = await connect()
    for body in ("<html>", "[]", '{"versionInfo": 1}'):
        fake.fail(200, body=body)
        way = (await found(alertmanager))["way"]
        assert (way.level, way.fix.startswith("correct url")) == ("fail", True)


@pytest.mark.parametrize(
    ("version", "level"), [("0.16.0", "ok"), ("1.0.0-rc.1", "ok"), ("0.15.3", "fail"), ("", "warn")]
)
async def test_a_version_without_the_api_is_found(
    fake: FakeAlertmanager, alertmanager: Alertmanager, version: str, level: str
) -> None:
    fake.version = version
    assert (await found(alertmanager))["version"].level == level


@pytest.mark.parametrize(("cluster", "level"), [("ready", "ok"), ("disabled", "ok"), ("settling", "warn")])
async def test_a_cluster_that_is_not_ready_is_found(
    fake: FakeAlertmanager, alertmanager: Alertmanager, cluster: str, level: str
) -> None:
    fake.cluster = cluster
    assert (await found(alertmanager))["cluster"].level == level


@pytest.mark.parametrize("config", ["", "[", "- a list", "receivers: 1\n", CONFIG.replace("slack_configs", "nothing")])
async def test_a_config_that_tells_nobody_or_is_none_is_found(
    fake: FakeAlertmanager, alertmanager: Alertmanager, config: str
) -> None:
    fake.config = config
    every = await found(alertmanager)
    assert "warn" in {every[one].level for one in ("config", "receiver") if one in every}


@pytest.mark.parametrize(("seconds", "level"), [(30, "ok"), (-90, "warn"), (400, "fail")])
async def test_a_clock_that_is_off_is_found(
    alertmanager: Alertmanager, monkeypatch: pytest.MonkeyPatch, seconds: float, level: str
) -> None:
    now = time.time
    monkeypatch.setattr("integrations.findings.time.time", lambda: now() + seconds)
    assert (await found(alertmanager))["clock"].level == level


async def test_webhooks_that_nothing_proves_are_found(connect: Connect) -> None:
    assert (await found(await connect(webhook_token=None)))["webhooks"].level == "warn"
    assert (await found(await connect(webhook_token="short")))["webhooks"].level == "warn"
    login = {"webhook_token": None, "webhook_username": "am", "webhook_password": "f" * 32}
    assert (await found(await connect(**login)))["webhooks"].what == "webhook_password is set"


async def test_a_drill_is_seen_and_resolved(fake: FakeAlertmanager, connect: Connect) -> None:
    alertmanager = await connect(sent_by='our "own" \\ bus')
    result = await alertmanager.send_notification(DRILL, DELIVERY)
    assert isinstance(alertmanager, Drills)
    assert await alertmanager.seen(DRILL, DELIVERY, result) is True
    assert await alertmanager.take_back(DRILL, DELIVERY, result) == "resolved"
    assert await alertmanager.seen(DRILL, DELIVERY, result) is False
    assert [effect.rpartition(" ")[2] for effect in fake.effects()] == ["resolved"]
