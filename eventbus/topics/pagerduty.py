"""`pagerduty.>`: webhooks of PagerDuty, as `pagerduty.incident.triggered` or `pagerduty.service.updated`. Ordered by
incident, else by service."""

from __future__ import annotations

from pydantic import AwareDatetime, Field, JsonValue

from eventbus.payload import Payload


class PagerDutyWebhook(Payload, topic="pagerduty.>"):
    """PagerDuty told us of something. The fields are a digest; `body` is the resource that PagerDuty sent.

    What tells our own doing from a person's: `ours` says that we opened the incident, `person` who did what the event
    tells of. An incident of ours that changed without a person was changed by us, or by a rule of PagerDuty.
    """

    event_id: str = Field(description="The same on every attempt and for every subscription")
    event_type: str = Field(description="Such as incident.triggered")
    occurred_at: AwareDatetime = Field(description="When it happened at PagerDuty")
    incident_id: str | None = Field(default=None, description="Id of the incident, such as PGR0VU2")
    number: int | None = Field(default=None, description="What people call the incident")
    title: str | None = Field(default=None, description="Its title")
    status: str | None = Field(default=None, description="triggered, acknowledged or resolved")
    urgency: str | None = Field(default=None, description="high or low")
    priority: str | None = Field(default=None, description="Such as P1")
    url: str | None = Field(default=None, description="Its page")
    incident_key: str | None = Field(default=None, description="The dedup key of the alert that opened it")
    service: str | None = Field(default=None, description="Name of the service")
    service_id: str | None = Field(default=None, description="Its id")
    assignees: tuple[str, ...] = Field(default=(), description="Who it is assigned to")
    person: str | None = Field(default=None, description="The user who did it; none: no person did")
    ours: bool = Field(default=False, description="The incident was opened by this integration")
    body: dict[str, JsonValue] | None = Field(default=None, description="The whole resource, where it is small enough")

    def ordering_key(self) -> str | None:
        subject = self.incident_id or self.service_id
        return None if subject is None else f"pagerduty:{subject}"

    @classmethod
    def example(cls) -> PagerDutyWebhook:
        return cls.model_validate(
            {
                "event_id": "01BRB6ZP4M6T8ZG4X6BP63ZB9O",
                "event_type": "incident.triggered",
                "occurred_at": "2026-01-12T10:30:00Z",
                "incident_id": "PGR0VU2",
                "number": 2,
                "title": "[PRODUCTION] Migration add_user_email failed: lock timeout on users",
                "status": "triggered",
                "urgency": "high",
                "url": "https://acme.pagerduty.com/incidents/PGR0VU2",
                "incident_key": "migration-add_user_email-production",
                "service": "Database Migrations",
                "service_id": "PF9KMXH",
                "assignees": ["Ada"],
                "ours": True,
            }
        )
