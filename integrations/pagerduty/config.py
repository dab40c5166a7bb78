"""The settings of one PagerDuty account: one Events API v2 integration, and a REST token where incidents are made.

Secrets are SecretStr, and no validation error repeats what was given. What an event asks of us stands here as data:
the table of actions, the severities, the dedup key, the runbooks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from eventbus.pattern import matches
from integrations.base import Severity
from integrations.fields import NonEmptySecret, Pattern, Secret, Text
from integrations.pagerduty.dedup import WITH_ENVIRONMENT, check_template

Action = Literal["trigger", "acknowledge", "resolve", "change", "resolve_or_change", "none"]
"""What an event asks: open an alert or add to it, acknowledge or resolve one of ours, tell of a change without a page,
resolve and tell of a change where nothing is open, or nothing."""

ACTIONS: dict[str, Action] = {
    "migration.completed": "resolve_or_change",
    "deploy.completed": "resolve_or_change",
    "deployment.completed": "resolve_or_change",
    "migration.rolled_back": "change",
    "vm.created": "resolve",
    "vm.started": "resolve",
    "delivery.dead_lettered": "trigger",
    "delivery.gap_found": "trigger",
    "*.failed": "trigger",
    "*.degraded": "trigger",
    "*.completed": "resolve",
    "*.recovered": "resolve",
}
"""Built in; the patterns of `actions` come before these. A task or migration that merely started has not recovered:
were it resolved then, the next failure would page a second time."""

SEVERITIES: dict[str, Severity] = {
    "integration.degraded": Severity.ERROR,
    "delivery.dead_lettered": Severity.WARNING,
    "delivery.gap_found": Severity.ERROR,
}
ENVIRONMENT_SEVERITIES: dict[str, Severity] = {
    "production": Severity.CRITICAL,
    "prod": Severity.CRITICAL,
    "staging": Severity.ERROR,
}
"""Any other environment: warning."""

HOSTS = {
    "us": ("https://events.pagerduty.com", "https://api.pagerduty.com"),
    "eu": ("https://events.eu.pagerduty.com", "https://api.eu.pagerduty.com"),
}
"""Events API and REST API of each service region (support.pagerduty.com, "Service Regions")."""

_SPELLINGS = {"integration_key": "routing_key", "token": "api_token"}
"""Other names that people know a setting by. PagerDuty's own pages say both routing key and integration key."""


def _integration_key(value: SecretStr) -> SecretStr:
    # "This is the 32 character Integration Key" (Events API v2, "Send an Alert Event").
    if not re.fullmatch(r"[A-Za-z0-9]{32}", value.get_secret_value()):
        raise ValueError(
            "is not 32 letters and digits: copy the Integration Key of an Events API v2 integration, "
            "found at the service under Integrations"
        )
    return value


def _web_address(value: str) -> str:
    if not is_web_address(value):
        raise ValueError("is an address such as https://wiki.example.com/runbooks, at most 2,000 characters")
    return value


def _https_address(value: str) -> str:
    if not value.startswith("https://"):
        raise ValueError("must begin with https://: PagerDuty shows no other images")
    return _web_address(value)


def _base_address(value: str | None) -> str | None:
    if value is None:
        return None
    parts = urlsplit(_web_address(value))
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("is an address without ?, # and password, such as https://pagerduty-proxy.example.com")
    return value.rstrip("/")


def is_web_address(value: str) -> bool:
    """True for what may stand in a link: http or https, a host, no spaces, at most 2,000 characters."""
    return len(value) <= 2000 and re.fullmatch(r"https?://[^\s/?#@\\]+(?:[/?#][^\s\\]*)?", value) is not None


IntegrationKey = Annotated[SecretStr, AfterValidator(_integration_key)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
Environment = Annotated[str, BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)]
RunbooksOfEnvironment = Annotated[
    dict[str, WebAddress], BeforeValidator(lambda value: {"default": value} if isinstance(value, str) else value)
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Link(_Part):
    """A link under every alert."""

    href: WebAddress = Field(description="Where it leads")
    text: str = Field(default="", max_length=200, description="What people click")
    environments: tuple[Environment, ...] = Field(default=(), description="Only under alerts of these; empty: all")


class Image(_Part):
    """An image under every alert."""

    src: Annotated[str, AfterValidator(_https_address)] = Field(description="Address of the image, https")
    href: WebAddress | None = Field(default=None, description="Where a click on it leads")
    alt: str = Field(default="", max_length=200, description="What it shows, in words")


class PagerDutyConfig(_Part):
    """One service of PagerDuty, by the integration key of its Events API v2 integration."""

    routing_key: IntegrationKey = Field(
        description="Integration Key of an Events API v2 integration, 32 characters; may be called integration_key"
    )
    previous_routing_keys: tuple[IntegrationKey, ...] = Field(
        default=(), max_length=5, description="Still used to resolve what was opened with them"
    )
    api_token: Secret = Field(default=None, description="REST API token, for incidents and health; or `token`")
    from_email: Text = Field(default=None, description="E-mail of a PagerDuty user; the maker of REST incidents")
    service: Text = Field(default=None, description="Service of REST incidents that name none, by its name")
    service_id: Text = Field(default=None, description="The same by its id, such as PIJ90N7; goes before the name")
    region: Literal["us", "eu"] = Field(default="us", description="us or eu; eu where the page is *.eu.pagerduty.com")
    base_url: Annotated[str | None, AfterValidator(_base_address)] = Field(
        default=None, description="One address for both APIs instead of the region's, such as a proxy"
    )
    environments: tuple[Environment, ...] = Field(
        default=("production", "prod"), min_length=1, description='Only their events are brought; "*" for all'
    )
    default_environment: Environment = Field(
        default="production", min_length=1, description="Of events that name no environment"
    )
    actions: dict[Pattern, Action] = Field(
        default_factory=dict, description="Topic pattern to action; the first match wins, then the built-in table"
    )
    auto_resolve: Literal["opened", "always", "never"] = Field(
        default="opened", description="opened: only what we opened; always: without asking what is open; never"
    )
    severities: dict[Pattern, Severity] = Field(
        default_factory=dict, description="Topic pattern to severity; the first match wins, then by environment"
    )
    environment_severities: dict[Environment, Severity] = Field(
        default_factory=lambda: dict(ENVIRONMENT_SEVERITIES), description="Environment to severity; others are warning"
    )
    dedup_key: Annotated[str, AfterValidator(check_template)] = Field(
        default=WITH_ENVIRONMENT,
        description="with_environment, without_environment, or a template such as confiture-{migration}-{environment}",
    )
    runbooks: dict[Environment, RunbooksOfEnvironment] = Field(
        default_factory=dict, description="Environment to error type to address; `default` stands for any, in both"
    )
    client: str = Field(default="eventbus", min_length=1, max_length=200, description="Who says so, for people")
    client_url: WebAddress | None = Field(default=None, description="Its page")
    source: Text = Field(default=None, description="The affected system; default: the event's source, else `client`")
    links: tuple[Link, ...] = Field(default=(), max_length=10, description="Links under every alert")
    images: tuple[Image, ...] = Field(default=(), max_length=5, description="Images under every alert")
    webhook_secret: Secret = Field(
        default=None, description="Signing secret of the webhook subscription; without it everything inbound is refused"
    )
    previous_webhook_secrets: tuple[NonEmptySecret, ...] = Field(
        default=(), max_length=5, description="Still accepted while webhook_secret is being replaced"
    )

    @model_validator(mode="before")
    @classmethod
    def _spellings(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        given = dict(data)
        for spelling, name in _SPELLINGS.items():
            other = given.pop(spelling, None)
            if other and given.get(name) and given[name] != other:
                raise ValueError(f"has {name} and {spelling}, two names of one setting, with different values")
            if other or (spelling in data and name not in given):
                given[name] = other
        return given

    @model_validator(mode="after")
    def _incidents_have_a_maker(self) -> Self:
        if (self.service or self.service_id) and not (self.api_token and self.from_email):
            raise ValueError("has a service for REST incidents, which also need api_token and from_email")
        return self

    @property
    def events_url(self) -> str:
        """The Events API, without a slash at the end."""
        return self.base_url or HOSTS[self.region][0]

    @property
    def api_url(self) -> str:
        """The REST API, without a slash at the end."""
        return self.base_url or HOSTS[self.region][1]

    @property
    def webhook_secrets(self) -> tuple[SecretStr, ...]:
        """Every secret that a webhook may be signed with, the newest first; empty where none may."""
        return () if self.webhook_secret is None else (self.webhook_secret, *self.previous_webhook_secrets)

    def action_for(self, topic: str) -> Action:
        """What an event of this topic asks."""
        tables = (*self.actions.items(), *ACTIONS.items())
        return next((action for pattern, action in tables if matches(pattern, topic)), "none")

    def severity_for(self, topic: str, environment: str) -> Severity:
        """How loud an event is that does not say so itself: by its topic, else by where it happened."""
        tables = (*self.severities.items(), *SEVERITIES.items())
        by_topic = next((severity for pattern, severity in tables if matches(pattern, topic)), None)
        return by_topic or self.environment_severities.get(environment, Severity.WARNING)

    def brings(self, environment: str) -> bool:
        """True where events of this environment are brought to PagerDuty."""
        return "*" in self.environments or environment in self.environments

    def runbook(self, environment: str, error_type: str) -> str | None:
        """The runbook for an error type in an environment, else the environment's default, else the general ones."""
        for table in (self.runbooks.get(environment, {}), self.runbooks.get("default", {})):
            if found := table.get(error_type) or table.get("default"):
                return found
        return None

    def key_known_as(self, name: str) -> SecretStr | None:
        """The integration key that `fingerprint` gave this name; None when it is no longer configured."""
        keys = (self.routing_key, *self.previous_routing_keys)
        return next((key for key in keys if fingerprint(key) == name), None)


def fingerprint(key: SecretStr) -> str:
    """A name for an integration key that may be stored: 48 bits of a digest of a random secret tell nothing of it."""
    return hashlib.sha256(key.get_secret_value().encode()).hexdigest()[:12]
