"""The settings: what CloudWatch would refuse is refused before the first event, and the secret is never repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

import integrations.cloudwatch
from integrations.cloudwatch.config import MEASURES, CloudWatchConfig
from integrations.cloudwatch.fake import UNITS as OFFICIAL_UNITS


def config(**settings: Any) -> CloudWatchConfig:
    return CloudWatchConfig.model_validate({"region": "eu-central-1"} | settings)


def why(**settings: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        config(**settings)
    return str(caught.value)


def measure(**changes: Any) -> dict[str, Any]:
    return {"name": "Orders", "type": "counter", "topics": ["shop.order.placed"]} | changes


def test_the_users_metric_keeps_its_namespace_name_unit_and_dimensions() -> None:
    one = MEASURES[0]
    assert config().namespace == "Confiture"
    assert (one.name, one.unit, list(one.labels)) == ("MigrationDuration", "Milliseconds", ["Environment", "Migration"])


def test_every_official_unit_is_taken() -> None:
    assert len(config(measures=[measure(unit=unit) for unit in OFFICIAL_UNITS]).measures) == 27


@pytest.mark.parametrize(
    ("unit", "hint"),
    [("milliseconds", "Milliseconds?"), ("count", "Count?"), ("Second", "Seconds?"), ("ms", "Bits/Second")],
)
def test_a_unit_that_cloudwatch_has_not_is_refused_with_one_that_it_has(unit: str, hint: str) -> None:
    assert hint in why(measures=[measure(unit=unit)])


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Umläut"},
        {"name": " "},
        {"labels": {":first": "topic"}},
        {"labels": {"Umläut": "topic"}},
        {"labels": {"x" * 256: "topic"}},
        {"type": "histogram", "value": "data.x", "buckets": [1]},
    ],
)
def test_a_measure_that_cloudwatch_would_refuse_is_refused(changes: dict[str, Any]) -> None:
    assert "measures.0" in why(measures=[measure(**changes)])


def test_thirty_dimensions_are_the_most_with_those_of_every_metric() -> None:
    labels = {f"D{n}": "topic" for n in range(30)}
    config(measures=[measure(labels=labels)], dimensions={"D1": "same name"})
    assert "more than 30 dimensions" in why(measures=[measure(labels=labels)], dimensions={"Service": "checkout"})


@pytest.mark.parametrize("namespace", ["AWS/EC2", ":x", "", " ", "x" * 256, "Umläut", "a\nb"])
def test_a_namespace_that_is_none_is_refused(namespace: str) -> None:
    assert "namespace" in why(namespace=namespace)


@pytest.mark.parametrize("dimensions", [{"": "x"}, {":a": "x"}, {"a": " "}, {"a": "ü"}, {"a": "x" * 1025}])
def test_a_dimension_of_every_metric_that_is_none_is_refused(dimensions: dict[str, str]) -> None:
    assert why(dimensions=dimensions)


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("eu-central-1", "https://monitoring.eu-central-1.amazonaws.com"),
        ("us-gov-west-1", "https://monitoring.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "https://monitoring.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_a_region_says_where_the_api_is(region: str, url: str) -> None:
    assert config(region=region).url == url


@pytest.mark.parametrize("region", ["", "Frankfurt", "eu-central-1.evil.example/", "eu_central_1"])
def test_a_region_that_is_none_is_refused(region: str) -> None:
    assert "such as eu-central-1" in why(region=region)


@pytest.mark.parametrize("endpoint", ["http://vpce.example.com", "https://h/path", "https://u:p@h", "ftp://h"])
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    assert "endpoint" in why(endpoint=endpoint)


@pytest.mark.parametrize(
    "settings",
    [
        {"access_key_id": "A" * 20},
        {"secret_access_key": "canary-secret"},
        {"session_token": "canary-secret"},
        {"access_key_id": "A" * 20, "secret_access_key": "canary-secret", "profile": "ops"},
    ],
)
def test_credentials_are_whole_and_no_secret_is_repeated(settings: dict[str, str]) -> None:
    assert "canary" not in why(**settings)


def test_the_settings_of_the_readme_can_be_used() -> None:
    readme = Path(integrations.cloudwatch.__file__).with_name("README.md").read_text("utf-8")
    blocks = [part.partition("```")[0] for part in readme.split("```yaml\n")[1:]]
    assert len(blocks) >= 2
    for block in blocks:
        found = yaml.safe_load(block)
        settings = found.get("integrations", {}).get("cloudwatch", found)
        settings = {name: value for name, value in settings.items() if name != "topics"}
        config(**settings)
