"""Settings that can't work are refused when they are read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from integrations.alertmanager.config import AlertmanagerConfig

BASE: dict[str, Any] = {"url": "http://alertmanager:9093"}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://am:9093/", "http://am:9093"),
        ("https://am.example.com/alertmanager", "https://am.example.com/alertmanager"),
        ("http://am:9093/api/v2/alerts", "http://am:9093"),
    ],
)
def test_the_address_is_the_base(given: str, meant: str) -> None:
    assert AlertmanagerConfig.model_validate({"url": given}).url == meant


@pytest.mark.parametrize("url", ["", "am:9093", "ftp://am", "http://u:canary@am", "http://am/?x=1", "http://a m"])
def test_what_is_no_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AlertmanagerConfig.model_validate({"url": url})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "__name__", "\u00e4", "sent_by", "a" * 101, "a\n"])
def test_what_is_no_label_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="labels"):
        AlertmanagerConfig.model_validate(BASE | {"labels": {name: "v"}})


@pytest.mark.parametrize("template", ["{", "{a b}", "{{a}}", "a}", "{a"])
def test_what_is_no_template_is_refused(template: str) -> None:
    with pytest.raises(ValidationError, match=r"write a field as \{migration\}"):
        AlertmanagerConfig.model_validate(BASE | {"labels": {"team": template}})


@pytest.mark.parametrize(
    "login",
    [
        {"username": "u"},
        {"password": "canary"},
        {"token": "canary", "username": "u", "password": "p"},
        {"webhook_username": "u"},
        {"webhook_password": "canary"},
    ],
)
def test_half_a_login_or_two_are_refused(login: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as caught:
        AlertmanagerConfig.model_validate(BASE | login)
    assert "canary" not in str(caught.value)


def test_an_alert_lasts_four_hours_unless_the_settings_say_otherwise() -> None:
    assert AlertmanagerConfig.model_validate(BASE).lasts == timedelta(hours=4)
    assert AlertmanagerConfig.model_validate(BASE | {"lasts": "PT30M"}).lasts == timedelta(minutes=30)
    for lasts in (0, 59, 31 * 86_400):
        with pytest.raises(ValidationError, match="lasts"):
            AlertmanagerConfig.model_validate(BASE | {"lasts": lasts})


def test_what_resolves_does_not_fire() -> None:
    config = AlertmanagerConfig.model_validate(BASE | {"fires": [">"]})
    assert [config.action_for(topic) for topic in ("task.completed", "task.started")] == ["resolve", "fire"]


def test_no_secret_is_shown() -> None:
    secrets = {"token": "canary", "webhook_token": "canary", "previous_webhook_tokens": ["canary"]}
    config = AlertmanagerConfig.model_validate(BASE | secrets)
    assert "canary" not in repr(config) + str(config.model_dump()) + config.model_dump_json()
