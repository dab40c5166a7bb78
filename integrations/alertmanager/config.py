"""The settings of one Alertmanager: where it is, which events are alerts, what an alert is labelled with.

Secrets are SecretStr, and no validation error repeats what was given.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from eventbus.pattern import matches, matches_any
from integrations.base import Severity
from integrations.fields import NonEmptySecret, Pattern, Secret, Text

FIRES = ("*.failed", "*.degraded", "delivery.dead_lettered", "delivery.gap_found")
RESOLVES = ("*.completed", "*.recovered", "vm.created", "vm.started")
"""A task or migration that merely started has not recovered."""

LABELS = {
    "alertname": "{alertname}",
    "severity": "{severity}",
    "environment": "{environment}",
    "subject": "{subject}",
}
ANNOTATIONS = {"summary": "{summary}", "description": "{description}"}

MARK = "sent_by"
"""The label that says that an alert is ours, when it comes back as a webhook."""

FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def _label_name(value: str) -> str:
    # prometheus.io, "Data model", "Metric names and labels": label names match this; those that begin with __ are kept
    # for internal use. Newer versions take any UTF-8, which their matchers then have to quote.
    if not _LABEL_NAME.fullmatch(value) or value.startswith("__") or len(value) > 100:
        raise ValueError("is no label name: letters, digits and _, no digit first, not __ first, at most 100")
    if value == MARK:
        raise ValueError(f"{MARK} marks what is ours: choose another name, or set sent_by")
    return value


def _template(value: str) -> str:
    if re.search(r"[{}]", FIELD.sub("", value)):
        raise ValueError("holds a { or } that is no field: write a field as {migration}")
    return value


def _base_address(value: str) -> str:
    if not is_web_address(value):
        raise ValueError("is an address such as http://alertmanager:9093")
    parts = urlsplit(value)
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("holds ?, # or a password: give username and password as settings of their own")
    return value.rstrip("/").removesuffix("/api/v2/alerts").removesuffix("/api/v2")


def is_web_address(value: str) -> bool:
    """True for what may stand in a link: http or https, a host, no spaces, at most 2,000 characters."""
    return len(value) <= 2000 and re.fullmatch(r"https?://[^\s/?#\\]+(?:[/?#][^\s\\]*)?", value) is not None


LabelName = Annotated[str, AfterValidator(_label_name)]
Template = Annotated[str, Field(max_length=1000), AfterValidator(_template)]


class AlertmanagerConfig(BaseModel):
    """One Alertmanager."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: Annotated[str, AfterValidator(_base_address)] = Field(
        description="Where it is, such as http://alertmanager:9093, with its path prefix if it has one"
    )
    token: Secret = Field(default=None, description="Sent as a bearer token")
    username: Text = Field(default=None, description="Or basic auth: who we are")
    password: Secret = Field(default=None, description="And our password")
    fires: tuple[Pattern, ...] = Field(default=FIRES, description="Topics whose events fire an alert")
    resolves: tuple[Pattern, ...] = Field(default=RESOLVES, description="Topics whose events resolve it")
    lasts: timedelta = Field(
        default=timedelta(hours=4),
        ge=timedelta(minutes=1),
        le=timedelta(days=30),
        description="How long an alert fires that nothing resolves, in seconds or as PT4H",
    )
    labels: dict[LabelName, Template] = Field(
        default_factory=dict, description="More labels, or others for those built in; an empty one takes it away"
    )
    annotations: dict[LabelName, Template] = Field(default_factory=dict, description="The same for annotations")
    severities: dict[Pattern, Severity] = Field(
        default_factory=dict, description="Topic pattern to severity of events that name none; first match, else error"
    )
    sent_by: str = Field(
        default="eventbus", min_length=1, max_length=100, description="Value of the label sent_by, which marks ours"
    )
    webhook_token: Secret = Field(default=None, description="Bearer token that Alertmanager's webhooks have to bring")
    previous_webhook_tokens: tuple[NonEmptySecret, ...] = Field(
        default=(), max_length=5, description="Still accepted while webhook_token is being replaced"
    )
    webhook_username: Text = Field(default=None, description="Or the user that they have to bring")
    webhook_password: Secret = Field(default=None, description="And the password")

    @model_validator(mode="after")
    def _logins_are_whole(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("has one of username and password: give both or neither")
        if (self.webhook_username is None) != (self.webhook_password is None):
            raise ValueError("has one of webhook_username and webhook_password: give both or neither")
        if self.token is not None and self.username is not None:
            raise ValueError("has a token and a username: one request can bring only one of them")
        return self

    def action_for(self, topic: str) -> str:
        """`fire`, `resolve`, or empty for a topic that asks nothing of Alertmanager."""
        if matches_any(self.resolves, topic):
            return "resolve"
        return "fire" if matches_any(self.fires, topic) else ""

    def severity_for(self, topic: str) -> Severity:
        """How loud an event is that does not say so itself."""
        return next((one for pattern, one in self.severities.items() if matches(pattern, topic)), Severity.ERROR)
