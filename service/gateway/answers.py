"""What the gateway answers with, as models: routes fill them in, and the OpenAPI document is made of them.

No secret has a place in them. Refusals are `problems.ProblemDocument`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from integrations.base import Effects, HealthState, Outcome


class Index(BaseModel):
    """What is here."""

    name: str
    openapi: str = Field(description="Where this interface is described for programs")
    operations: dict[str, str] = Field(description="Method and path of each operation, by its operationId")


class Ready(BaseModel):
    """Whether what is accepted now can be made durable."""

    ready: bool
    spooling: bool = Field(default=False, description="Redis does not answer; what comes waits on the gateway's disk")
    event_bus: str = Field(default="", description="What is wrong with the bus; for this machine and holders of a key")


class ComponentDetail(BaseModel):
    """How one component is, for holders of a key."""

    detail: str
    latency_ms: float | None = Field(description="Of the question to the service")


class HealthReport(BaseModel):
    """How the system is. `degraded`: an integration is not healthy; `unhealthy`: the bus is not."""

    status: Literal["ok", "degraded", "unhealthy"]
    components: dict[str, HealthState]
    details: dict[str, ComponentDetail] | None = Field(default=None, description="For holders of a key")


class Stored(BaseModel):
    """What became of an event."""

    id: str = Field(description="Of the event; of a duplicate, that of the first")
    topic: str
    status: Literal["stored", "scheduled", "spooled", "duplicate"] = Field(
        description="`scheduled`: kept until its time; `spooled`: on the gateway's disk until Redis takes it"
    )
    sequence: int = Field(description="Its number in the log; 0 where it has none yet")


class Done(BaseModel):
    """What an integration did."""

    outcome: Outcome = Field(description="`duplicate`: it was done before, under the same Idempotency-Key")
    reference: str | None = Field(description="The service's id of what was made")
    url: str | None = Field(description="Its page, for people")
    detail: str


class LogLine(BaseModel):
    """A line of a program's log."""

    time: str = Field(description="By its program's clock, in UTC")
    level: Literal["debug", "info", "warning", "error", "critical"]
    component: str = Field(description="The integration or group it is about, else the logger that wrote it")
    message: str
    logger: str | None
    program: str | None
    host: str | None
    pid: int | None
    fields: dict[str, Any] = Field(description="What else it says")


class LogLines(BaseModel):
    """Lines of the journal, the newest first."""

    lines: list[LogLine]
    next: str | None = Field(description="Sent as `next`, it asks for what comes after; null at the end")


class EffectClass(BaseModel):
    """What is done when nobody knows whether a call was carried out."""

    name: Effects = Field(alias="class")
    meaning: str


class BudgetFacts(BaseModel):
    """How often its service is called at most."""

    name: str
    count: int
    per: float = Field(description="Seconds")
    burst: int
    each: Literal["account", "place"]


class ScopeFacts(BaseModel):
    """A right that the credentials need at the service."""

    name: str
    why: str
    needed: bool


class ArtifactFacts(BaseModel):
    """A kind of artifact."""

    json_schema: dict[str, Any] = Field(alias="schema", description="JSON Schema 2020-12 of its content")


class IntegrationFacts(BaseModel):
    """A configured integration: what its adapter says of itself. Its settings are not told."""

    name: str = Field(description="In the settings, and in paths")
    adapter: str
    version: str | None = Field(description="Of the distribution that the adapter comes from")
    enabled: bool = Field(description="False: the settings switch it off, and every call to it is 404")
    title: str
    about: str
    tier: Literal["works", "safe", "complete"] | None = Field(description="What its contract tests earn")
    takes: list[str] = Field(
        description="Patterns of the topics it takes by itself with its settings; routes may send it more"
    )
    publishes: list[str] = Field(description="Topics or families that its webhooks become")
    webhooks: str | None = Field(description="Where its service calls us")
    notifications: list[str] = Field(description="Values of `type` that a notification may have")
    artifacts: dict[str, ArtifactFacts]
    effects: EffectClass
    limits: str
    budgets: list[BudgetFacts]
    scopes: list[ScopeFacts]


class Integrations(BaseModel):
    """Every integration that the settings have."""

    integrations: list[IntegrationFacts]
