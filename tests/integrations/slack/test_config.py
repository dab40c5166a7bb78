from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from integrations.slack import SlackConfig

TOKEN = "xoxb-canary-token"


def config(**settings: Any) -> SlackConfig:
    return SlackConfig.model_validate({"bot_token": TOKEN, **settings})


def test_the_config_of_the_users_document_is_accepted_as_it_stands() -> None:
    made = SlackConfig.model_validate({"bot_token": TOKEN, "signing_secret": "s", "base_url": "https://slack.com/api"})
    assert made.base_url == "https://slack.com/api"


def test_a_slash_at_the_end_of_base_url_changes_nothing() -> None:
    assert config(base_url="https://slack.com/api/").base_url == config().base_url


def test_a_config_without_any_way_out_is_refused_and_the_text_names_both() -> None:
    with pytest.raises(ValidationError, match="bot_token, or webhook_url") as caught:
        SlackConfig.model_validate({"signing_secret": "canary-signing"})
    assert "canary" not in str(caught.value)


def test_an_empty_environment_variable_counts_as_not_set() -> None:
    with pytest.raises(ValidationError, match="bot_token, or webhook_url"):
        SlackConfig.model_validate({"bot_token": "", "webhook_url": ""})
    assert config(signing_secret="").signing_secret is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"chanel": "#x"},
        {"base_url": "slack.com/api"},
        {"webhook_url": "hooks.slack.com/services/x"},
        {"channels": {"VM.*": "#vms"}},
        {"channels": {"vm.*": ""}},
        {"default_channel": ""},
        {"command_prefix": "Event Bus"},
    ],
)
def test_a_setting_that_cannot_work_is_refused_without_repeating_what_was_given(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        config(**wrong)
    assert TOKEN not in str(caught.value)
    assert next(iter(wrong)) in str(caught.value)


def test_no_secret_shows_in_a_representation() -> None:
    made = config(signing_secret="canary-signing", webhook_url="https://hooks.slack.com/services/canary")
    assert "canary" not in repr(made) + str(made) + made.model_dump_json()


def test_the_first_pattern_that_matches_chooses_the_channel() -> None:
    made = config(channels={"vm.failed": "#alarms", "vm.*": "#vms", "migration.>": "C0DB"}, default_channel="general")
    assert [made.channel_for(t) for t in ("vm.failed", "vm.created", "migration.failed", "task.failed")] == [
        "#alarms",
        "#vms",
        "C0DB",
        "general",
    ]
