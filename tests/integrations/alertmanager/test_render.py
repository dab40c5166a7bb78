"""What is posted, and that nothing an event holds makes more of it than an alert."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.catalog import catalog
from eventbus.topics import TaskFailed
from integrations.alertmanager import fake
from integrations.alertmanager.config import AlertmanagerConfig
from integrations.alertmanager.render import MAX_ANNOTATION, MAX_LABEL, Call, call_for, cut, fingerprint
from integrations.base import Delivery, Earlier, Notification

NOW = datetime(2026, 1, 12, 10, 30, tzinfo=UTC)
ZWSP = "\u200b"


def call(what: Any, delivery: Delivery | None = None, **settings: Any) -> Call:
    config = AlertmanagerConfig.model_validate({"url": "http://am", **settings})
    made = call_for(what, delivery or Delivery("k"), config, "alertmanager")
    assert isinstance(made, Call)
    for posted in json.loads(made.content(NOW, config)):
        assert fake.check(fake._read(posted)) == ""
    return made


def test_a_fingerprint_is_the_one_that_alertmanager_gives() -> None:
    # As Alertmanager 0.25.0 answered to GET /api/v2/alerts for these labels.
    assert fingerprint({"alertname": "A", "environment": "production"}) == "4274c8c7cd6f0e47"
    assert fingerprint({"alertname": "\u00dcber", "b": "2", "a": "1"}) == "e382332df7e5ab0e"


@pytest.mark.parametrize(
    "text",
    ["@everyone", "<!channel>", "<@U024BE7LH>", "<#C024BE7LR>", "<https://evil.example|here>", "<b>", "<@&123>"],
)
def test_nobody_is_mentioned_and_nothing_is_made_up(text: str) -> None:
    (alert,) = call(catalog.event("deploy.failed", {"name": text, "error": text})).alerts
    assert text not in alert.annotations["summary"]
    assert alert.annotations["description"].replace(ZWSP, "") == text
    assert ZWSP in alert.annotations["description"]
    (told,) = call(Notification(title=text, message=text)).alerts
    assert told.labels["alertname"] == text or ZWSP in told.labels["alertname"]
    assert not told.labels["alertname"].startswith(("<!", "<@", "<h"))


@pytest.mark.parametrize(
    "text", ["a\r\nb", "a\x00b", "a\u202eb", "\ud800", "x" * 100_000, "\u00fc" * 5000, "{x}", "{{.}}"]
)
def test_odd_text_becomes_an_alert_like_any_other(text: str) -> None:
    (alert,) = call(catalog.event("deploy.failed", {"name": text, "environment": text, "error": text})).alerts
    assert all(len(value) <= MAX_LABEL and value.isprintable() for value in alert.labels.values())
    assert all(len(value) <= MAX_ANNOTATION for value in alert.annotations.values())


@given(st.text(min_size=1))
def test_any_text_becomes_an_alert(text: str) -> None:
    call(Notification(title=text, message=text, fields={text: text}), labels={"x": "{a}{environment}"})


def test_what_is_cut_says_so_and_stays_apart() -> None:
    one, two = cut("x" * 300 + "1", 200), cut("x" * 300 + "2", 200)
    assert one != two
    assert max(len(one), len(two)) <= 200
    assert " ... 151 more (" in one
    assert cut("x" * 200, 200) == "x" * 200


def test_text_of_an_event_in_a_template_is_not_taken_for_one() -> None:
    failed = catalog.event(TaskFailed(task_id="{severity}", error="e"))
    (alert,) = call(failed, labels={"task": "{task_id}"}).alerts
    assert alert.labels["task"] == "{severity}"


def test_a_thread_remembers_twenty_alerts_and_forgets_the_oldest() -> None:
    state: dict[str, str] = {}
    for number in range(25):
        event = catalog.event("deploy.failed", {"name": "api", "environment": f"e{number}"}, key="deploy:api")
        made = call(event, Delivery("k", thread="deploy:api", earlier=Earlier(state=state)))
        state = made.keep(NOW)
    assert list(state) == [f"e{number}" for number in range(5, 25)]


def test_what_is_remembered_of_a_notification_has_the_moment_it_was_sent() -> None:
    made = call(Notification(message="m"), Delivery("k", thread="t"))
    over = Delivery("k2", thread="t", earlier=Earlier(state=made.keep(NOW)))
    (alert,) = call(Notification(type="resolve", message="m"), over).alerts
    assert alert.starts == NOW
