"""`alertmanager.alert.*`: an alert fires or is resolved, as Alertmanager says. Ordered by alert."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from eventbus.payload import Payload


class _Alert(Payload):
    """What Alertmanager says of one alert. Of what may differ between two of its messages about the same thing, such as
    annotations, it is what the first message said."""

    fingerprint: str = Field(description="Names the alert: a digest of its labels")
    name: str | None = Field(default=None, description="The label alertname")
    severity: str | None = Field(default=None, description="The label severity")
    starts_at: AwareDatetime = Field(description="When it began to fire")
    labels: dict[str, str] = Field(description="What the alert is about; they are its identity")
    annotations: dict[str, str] = Field(default_factory=dict, description="What is said of it, such as summary")
    url: str | None = Field(default=None, description="What caused it, such as the rule in Prometheus")
    ours: bool = Field(default=False, description="The alert was sent to Alertmanager by us")

    def ordering_key(self) -> str | None:
        return f"alertmanager:{self.fingerprint}"


class AlertFiring(_Alert, topic="alertmanager.alert.firing"):
    """An alert fires; said once for each time it begins to."""

    @classmethod
    def example(cls) -> AlertFiring:
        return cls.model_validate(_EXAMPLE)


class AlertResolved(_Alert, topic="alertmanager.alert.resolved"):
    """An alert fires no more."""

    ends_at: AwareDatetime = Field(description="When it was over")

    @classmethod
    def example(cls) -> AlertResolved:
        return cls.model_validate({**_EXAMPLE, "ends_at": "2026-01-12T10:42:00Z"})


_EXAMPLE = {
    "fingerprint": "5ef77f1f8a3ecfe0",
    "name": "DiskAlmostFull",
    "severity": "critical",
    "starts_at": "2026-01-12T10:30:00Z",
    "labels": {
        "alertname": "DiskAlmostFull",
        "severity": "critical",
        "instance": "db-1:9100",
        "environment": "production",
    },
    "annotations": {"summary": "4 % are left on /var of db-1"},
    "url": "https://prometheus.example.com/graph?g0.expr=disk_free",
}
