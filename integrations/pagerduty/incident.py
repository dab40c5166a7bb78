"""A REST incident: what a caller may say of one, and the request it becomes. Pure.

For people and routes that want an incident on a service they name, made at once and with its page as the answer.
Failures of machines belong to the Events API: PagerDuty limits this one "at human speed" ("Incident Creation API").
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from integrations.base import Delivery, Severity
from integrations.pagerduty.config import PagerDutyConfig
from integrations.pagerduty.dedup import digest, fitted
from integrations.pagerduty.redact import cleaned, cut, redacted

MAX_TITLE = 1024
MAX_DETAILS = 10_000
"""Our own: PagerDuty publishes no limit for either."""
KEY_PREFIX = "eventbus-"


class Incident(BaseModel):
    """The content of an artifact `incident`. Without assignment the service's escalation policy says who is told."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"title": "Migration 0042 failed in production", "urgency": "high"}]},
    )

    title: str = Field(min_length=1, description="What is wrong, in a line")
    details: str = Field(default="", description="The rest of it; plain text")
    service: str | None = Field(default=None, description="The service's name; default: that of the settings")
    service_id: str | None = Field(default=None, pattern=r"^[A-Z0-9]{4,40}$", description="Or its id")
    urgency: Literal["high", "low"] | None = Field(
        default=None, description="Default: low for severity warning or info and for non-production environments"
    )
    severity: Severity | None = Field(default=None, description="Chooses the urgency")
    environment: str | None = Field(default=None, description="Chooses the urgency and the runbook")
    error_type: str | None = Field(default=None, description="Chooses the runbook")
    assign_on_call: bool = Field(default=False, description="Assign whoever is on call; takes escalation out of play")
    assignee_id: str | None = Field(default=None, pattern=r"^[A-Z0-9]{4,40}$", description="Assign this user")
    escalation_policy_id: str | None = Field(
        default=None, pattern=r"^[A-Z0-9]{4,40}$", description="Instead of the service's own policy"
    )
    priority_id: str | None = Field(default=None, pattern=r"^[A-Z0-9]{4,40}$", description="Its priority")
    incident_key: str | None = Field(
        default=None, min_length=1, max_length=255, description="Refused while an incident of this key is open"
    )

    @model_validator(mode="after")
    def _one_assignment(self) -> Self:
        # REST API, POST /incidents: assignments "cannot be specified if an escalation policy is given"; one assignee.
        if sum((self.assign_on_call, self.assignee_id is not None, self.escalation_policy_id is not None)) > 1:
            raise ValueError("give one of assign_on_call, assignee_id and escalation_policy_id")
        return self


def incident_key(content: Incident, delivery: Delivery) -> str:
    """What PagerDuty knows a repeat by: the caller's own, else the thread's, else the delivery's."""
    return content.incident_key or fitted(delivery.thread) or KEY_PREFIX + digest(delivery.key)


def incident_body(
    content: Incident, config: PagerDutyConfig, key: str, service_id: str, assignee_id: str | None
) -> dict[str, JsonValue]:
    """The body of `POST /incidents`."""
    incident: dict[str, JsonValue] = {
        "type": "incident",
        "title": cut(cleaned(redacted(content.title)), MAX_TITLE),
        "service": {"id": service_id, "type": "service_reference"},
        "urgency": urgency(content),
        "incident_key": key,
    }
    if text := _details(content, config):
        incident["body"] = {"type": "incident_body", "details": text}
    if assignee_id is not None:
        incident["assignments"] = [{"assignee": {"id": assignee_id, "type": "user_reference"}}]
    if content.escalation_policy_id is not None:
        incident["escalation_policy"] = {"id": content.escalation_policy_id, "type": "escalation_policy_reference"}
    if content.priority_id is not None:
        incident["priority"] = {"id": content.priority_id, "type": "priority_reference"}
    return {"incident": incident}


def urgency(content: Incident) -> Literal["high", "low"]:
    """The caller's word, else by severity, else by environment, else high: better one page too many."""
    if content.urgency is not None:
        return content.urgency
    if content.severity is not None:
        return "high" if content.severity in (Severity.CRITICAL, Severity.ERROR) else "low"
    return "high" if (content.environment or "production").lower() in ("production", "prod") else "low"


def _details(content: Incident, config: PagerDutyConfig) -> str:
    runbook = config.runbook((content.environment or config.default_environment).lower(), content.error_type or "")
    tail = f"Runbook: {runbook}" if runbook else ""
    return "\n\n".join(filter(None, [cut(redacted(content.details), MAX_DETAILS), tail]))
