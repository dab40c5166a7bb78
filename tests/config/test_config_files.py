"""The files in `config/` and the users' own file load with the adapters we ship."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, SecretStr

from eventbus.event import Event
from integrations.base import Delivery, DeliveryResult, Health, Integration, Manifest
from registry.discovery import ENTRY_POINT_GROUP, RESERVED_KEYS, Adapter, discover
from registry.sections import Schedule
from registry.settings import ConfigError, Redis, Settings, default_settings, load
from service.schedules import occurrences

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"

SECRETS = {
    "GITHUB_TOKEN": "ghp_canary0123456789",
    "GITHUB_WEBHOOK_SECRET": "canary-webhook-secret",
    "SLACK_BOT_TOKEN": "xoxb-canary-0123456789",
    "SLACK_SIGNING_SECRET": "canary0123456789abcdef0123456789",
    "PAGERDUTY_ROUTING_KEY": "canary0123456789canary0123456789",
    "PAGERDUTY_WEBHOOK_SECRET": "canary-pagerduty-webhook",
    "ALERTMANAGER_WEBHOOK_TOKEN": "canary-alertmanager-webhook",
    "SMTP_USERNAME": "canary-smtp-username",
    "SMTP_PASSWORD": "canary-smtp-password",
    "BILLING_WEBHOOK_SECRET": "whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5",
    "WAREHOUSE_TOKEN": "canary-warehouse",
    "EVENTBUS_API_KEY": "canary-0123456789abcdef",
    "MY_INTEGRATION_KEY": "canary-my-integration",
}

USERS_FILE = """\
# config/production.yaml

integrations:
  github:
    enabled: true
    token: ${GITHUB_TOKEN}
    webhook_secret: ${GITHUB_WEBHOOK_SECRET}
    base_url: https://api.github.com

  slack:
    enabled: true
    bot_token: ${SLACK_BOT_TOKEN}
    signing_secret: ${SLACK_SIGNING_SECRET}
    base_url: https://slack.com/api

  # Custom integration
  myintegration:
    enabled: true
    api_key: ${MY_INTEGRATION_KEY}
    base_url: https://api.example.com

events:
  provider: redis
  redis:
    addr: localhost:6379
    db: 1
"""


class MyConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")

    api_key: SecretStr
    base_url: str


class MyIntegration(Integration[MyConfig]):
    manifest: ClassVar[Manifest] = Manifest(name="myintegration", title="Mine", config=MyConfig)

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        return DeliveryResult.skipped("")

    async def health(self) -> Health:
        return Health("healthy")


@pytest.fixture(scope="module")
def adapters() -> dict[str, Adapter]:
    """What the project's own entry points offer, installed or not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    offered = project["entry-points"][ENTRY_POINT_GROUP]
    found = discover(EntryPoint(name, value, ENTRY_POINT_GROUP) for name, value in offered.items())
    assert not found.broken
    return dict(found.adapters)


def file_keys(value: Any) -> Any:
    """The keys of a file as nested sets, without its values."""
    return {key: file_keys(inner) for key, inner in value.items()} if isinstance(value, dict) else None


def model_keys(model: type[BaseModel]) -> dict[str, Any]:
    inner = {name: field.annotation for name, field in model.model_fields.items()}
    return {
        name: model_keys(kind) if isinstance(kind, type) and issubclass(kind, BaseModel) else None
        for name, kind in inner.items()
    }


def test_default_yaml_says_the_defaults(adapters: dict[str, Adapter]) -> None:
    assert load(CONFIG / "default.yaml", adapters, {}) == default_settings(adapters)


def test_default_yaml_leaves_no_setting_out(adapters: dict[str, Adapter]) -> None:
    text = (CONFIG / "default.yaml").read_text(encoding="utf-8")
    keys = file_keys(yaml.safe_load(text.replace("#: ", "")))
    integrations, schedules = keys.pop("integrations"), keys.pop("schedules")
    expected = model_keys(Settings)
    del expected["integrations"], expected["schedules"]
    expected["events"]["redis"] = model_keys(Redis)
    ours = ("routes", "runbooks", "time_intervals", "inhibitions")  # docs/routes.md has what they hold
    inner: dict[str, Any] = {name: {} for name in ours}
    assert keys == expected | inner
    log = adapters["log"].integration
    assert log is not None
    assert integrations == {"log": dict.fromkeys(RESERVED_KEYS | log.manifest.config.model_fields.keys())}
    assert schedules["example"].keys() == Schedule.model_fields.keys()


def test_the_lines_that_default_yaml_has_switched_off_are_defaults_too(
    adapters: dict[str, Adapter], tmp_path: Path
) -> None:
    text = (CONFIG / "default.yaml").read_text(encoding="utf-8")
    switched = tmp_path / "switched.yaml"
    switched.write_text(re.sub(r"^  url: .*\n", "", text, flags=re.MULTILINE).replace("#: ", ""), encoding="utf-8")
    settings = load(switched, adapters, {})
    assert settings.events.redis == Redis()
    assert settings.events.url.get_secret_value() == "redis://localhost:6379/0"
    schedule = settings.schedules["example"]
    assert schedule == Schedule(cron=schedule.cron, topic=schedule.topic)


def test_example_yaml_shows_every_adapter_we_ship(adapters: dict[str, Adapter]) -> None:
    settings = load(CONFIG / "example.yaml", adapters, SECRETS)
    assert {account.adapter for account in settings.integrations.values() if account.enabled} == adapters.keys()
    assert not settings.integrations["slack-staging"].enabled
    webhook = settings.integrations["webhook"].config
    assert webhook is not None
    assert [endpoint["name"] for endpoint in webhook.model_dump()["endpoints"]] == ["billing", "warehouse"]


def test_example_yaml_publishes_every_quarter_of_an_hour(adapters: dict[str, Adapter]) -> None:
    (schedule,) = load(CONFIG / "example.yaml", adapters, SECRETS).schedules.values()
    noon = datetime(2026, 1, 12, 12, tzinfo=UTC)
    assert [time.minute for time in islice(occurrences(schedule, noon), 4)] == [15, 30, 45, 0]


def test_production_yaml_keeps_events_on_disk_and_accepts_nothing_unsafe(adapters: dict[str, Adapter]) -> None:
    events = load(CONFIG / "production.yaml", adapters, {**SECRETS, "EVENTBUS_SPOOL": "/srv/spool"}).events
    assert events.spool == Path("/srv/spool")
    assert events.accept_unsafe == ()


def test_production_yaml_takes_its_secrets_from_the_environment(adapters: dict[str, Adapter]) -> None:
    environ = {**SECRETS, "REDIS_PASSWORD": "canary/redis", "REDIS_TLS": "true", "EVENTBUS_HOST": "events.example.com"}
    settings = load(CONFIG / "production.yaml", adapters, environ)
    assert settings.events.url.get_secret_value() == "rediss://:canary%2Fredis@localhost:6379/1"
    assert settings.gateway.allowed_hosts == ("events.example.com",)
    assert list(settings.integrations) == ["github", "slack"]


def test_production_yaml_without_its_secrets_names_every_one_with_its_line(adapters: dict[str, Adapter]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(CONFIG / "production.yaml", adapters, {})
    missing = [re.search(r"variable (\w+) is not set", fault.message) for fault in caught.value.faults]
    assert [found and found[1] for found in missing] == [
        "GITHUB_TOKEN",
        "GITHUB_WEBHOOK_SECRET",
        "SLACK_BOT_TOKEN",
        "SLACK_SIGNING_SECRET",
        "EVENTBUS_API_KEY",
    ]
    lines = (CONFIG / "production.yaml").read_text(encoding="utf-8").splitlines()
    assert all(
        f"${{{found[1]}}}" in lines[f.line - 1] for f, found in zip(caught.value.faults, missing, strict=True) if found
    )


def test_the_users_file_is_accepted_verbatim_where_every_adapter_is_installed(
    adapters: dict[str, Adapter], tmp_path: Path
) -> None:
    path = tmp_path / "production.yaml"
    path.write_text(USERS_FILE, encoding="utf-8")
    mine = Adapter("myintegration", "my-integration", "1.0", MyIntegration)
    settings = load(path, {**adapters, "myintegration": mine}, SECRETS)
    assert settings.events.safe_url == "redis://localhost:6379/1"
    assert [name for name, account in settings.integrations.items() if account.enabled] == [
        "github",
        "slack",
        "myintegration",
    ]
    assert settings.integrations["myintegration"].config == MyConfig(
        api_key=SecretStr(SECRETS["MY_INTEGRATION_KEY"]), base_url="https://api.example.com"
    )


def test_the_users_file_without_its_own_adapter_is_refused_naming_the_line(
    adapters: dict[str, Adapter], tmp_path: Path
) -> None:
    path = tmp_path / "production.yaml"
    path.write_text(USERS_FILE, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path, adapters, SECRETS)
    (fault,) = caught.value.faults
    assert (fault.line, fault.dotted) == (17, "integrations.myintegration")
    assert fault.message.startswith(f"no adapter 'myintegration' is installed; known: {', '.join(sorted(adapters))}. ")


@pytest.mark.parametrize("name", ["default.yaml", "example.yaml", "production.yaml"])
def test_settings_of_every_file_can_be_printed(adapters: dict[str, Adapter], name: str) -> None:
    settings = load(CONFIG / name, adapters, SECRETS)
    shown = repr(settings) + settings.model_dump_json()
    assert not [secret for secret in SECRETS.values() if secret in shown]
