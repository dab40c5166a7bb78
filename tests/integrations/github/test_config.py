from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from integrations.github.config import GitHubConfig

APP = {"app_id": 1, "installation_id": 2, "private_key": "pem"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "needs token; or, for a GitHub App, app_id"),
        ({"token": ""}, "needs token"),
        ({"token": "t", **APP}, "has token and app_id, installation_id, private_key: sign in one way"),
        ({"app_id": 1}, "also needs installation_id, private_key"),
        ({"app_id": 1, "private_key": "pem"}, "also needs installation_id"),
        ({"installation_id": 2, "private_key_file": "a.pem"}, "also needs app_id"),
        ({**APP, "private_key_file": "a.pem"}, "keep one of them"),
        ({"token": "t", "base_url": "api.github.com"}, "is an address such as"),
        ({"token": "t", "base_url": "https://me:pw@github.example.com"}, "must hold no user or password"),
        ({"token": "t", "tokn": "x"}, "tokn"),
    ],
)
def test_settings_that_can_not_work_are_refused_with_a_reason(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        GitHubConfig.model_validate(settings)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "settings", [{"token": "t"}, APP, {"app_id": "Iv1.ab", "installation_id": 2} | {"private_key_file": "a"}]
)
def test_each_way_to_sign_in_is_enough(settings: dict[str, Any]) -> None:
    GitHubConfig.model_validate(settings)


@pytest.mark.parametrize(
    ("base", "web"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://api.github.com/", "https://github.com"),
        ("https://api.acme.ghe.com", "https://acme.ghe.com"),
        ("https://git.acme.example/api/v3", "https://git.acme.example"),
        ("https://api.acme.example/api/v3", "https://api.acme.example"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_the_web_address_follows_from_the_api_address(base: str, web: str) -> None:
    assert GitHubConfig.model_validate({"token": "t", "base_url": base}).web == web


def test_a_web_address_that_is_given_wins() -> None:
    assert GitHubConfig.model_validate({"token": "t", "web_url": "https://git.example/"}).web == "https://git.example"


def test_no_error_and_no_repr_shows_a_secret() -> None:
    secret = "s3cret-canary"
    with pytest.raises(ValidationError) as caught:
        GitHubConfig.model_validate({"token": secret, **APP, "webhook_secret": secret})
    shown = GitHubConfig.model_validate(
        {"token": secret, "webhook_secret": secret, "previous_webhook_secrets": [secret]}
    )
    assert secret not in f"{caught.value} {shown} {shown!r}"
