"""The settings: what Datadog would drop or rewrite without a word is refused before the first event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

import integrations.datadog
from integrations.datadog.config import MEASURES, DatadogConfig


def config(**settings: Any) -> DatadogConfig:
    return DatadogConfig.model_validate(settings)


def why(**settings: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        config(**settings)
    return str(caught.value)


def test_without_settings_it_is_the_agent_of_this_machine() -> None:
    one = config()
    assert (one.transport, one.agent, one.room) == ("dogstatsd", "udp://127.0.0.1:8125", 1432)


def test_the_users_metrics_keep_their_names_and_tags() -> None:
    known = {one.name: (one.type, tuple(one.labels)) for one in MEASURES}
    assert known["confiture.migrations.completed"] == ("counter", ("env", "migration"))
    assert known["confiture.migrations.duration"] == ("histogram", ("env",))
    assert known["pg_migration.operation.duration"] == ("histogram", ("operation",))
    assert known["pg_migration.operation.memory"] == ("gauge", ("operation",))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("agent.internal", "udp://agent.internal:8125"),
        ("10.0.0.7:9125", "udp://10.0.0.7:9125"),
        ("udp://[::1]:8125", "udp://[::1]:8125"),
        ("unix:///var/run/datadog/dsd.socket", "unix:///var/run/datadog/dsd.socket"),
        ("unixgram:///var/run/datadog/dsd.socket", "unix:///var/run/datadog/dsd.socket"),
    ],
)
def test_an_agents_address_is_read_as_people_write_it(given: str, meant: str) -> None:
    assert config(agent=given).agent == meant


def test_a_unix_socket_has_more_room() -> None:
    assert config(agent="unix:///run/dsd.socket").room == 8192


@pytest.mark.parametrize("given", ["http://x:1", "udp://", "unix://relative", "unix:///" + "x" * 108, "udp://x:1/path"])
def test_an_address_that_is_none_is_refused(given: str) -> None:
    assert "unix:///var/run/datadog/dsd.socket" in why(agent=given)


@pytest.mark.parametrize(
    ("site", "url"),
    [
        ("datadoghq.com", "https://api.datadoghq.com"),
        ("app.datadoghq.eu", "https://api.datadoghq.eu"),
        ("https://us5.datadoghq.com/", "https://api.us5.datadoghq.com"),
        ("ap2.datadoghq.com", "https://api.ap2.datadoghq.com"),
    ],
)
def test_a_site_says_where_the_api_is(site: str, url: str) -> None:
    assert config(transport="api", api_key="k" * 32, site=site).url == url


def test_the_api_needs_a_key_and_says_where_it_is_made() -> None:
    assert "Organization Settings" in why(transport="api")
    assert "api_key" in why(transport="api", api_key="")


def test_a_key_is_not_sent_in_the_clear() -> None:
    assert "in the clear" in why(transport="api", api_key="k" * 32, base_url="http://proxy.example.com")
    assert config(transport="api", api_key="k" * 32, base_url="http://127.0.0.1:1").url == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "1.first"},
        {"name": "with space"},
        {"name": "umläut"},
        {"labels": {"1st": "topic"}},
        {"labels": {"a,b": "topic"}},
        {"labels": {"a|b": "topic"}},
        {"type": "histogram", "value": "data.x", "buckets": [1, 2]},
    ],
)
def test_a_measure_that_datadog_would_rewrite_is_refused(changes: dict[str, Any]) -> None:
    assert why(measures=[{"name": "a.b", "type": "counter", "topics": ["a.*"]} | changes])


@pytest.mark.parametrize("tag", ["1x", "a,b", "a|b", "a b", "", "x" * 201, "-a"])
def test_a_tag_that_is_none_is_refused(tag: str) -> None:
    assert "team:database" in why(tags=[tag])


def test_the_settings_of_the_readme_can_be_used() -> None:
    readme = Path(integrations.datadog.__file__).with_name("README.md").read_text("utf-8")
    blocks = [part.partition("```")[0] for part in readme.split("```yaml\n")[1:]]
    assert len(blocks) == 3
    for block in blocks:
        found = yaml.safe_load(block)
        settings = found.get("integrations", {}).get("datadog", found)
        config(**{name: value for name, value in settings.items() if name != "topics"})
