"""`integration.*`: what the integrations themselves meet. These never become dead-letter events in turn."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import AwareDatetime, Field

from eventbus.payload import Payload


class WebhookReceived(Payload, topic="integration.webhook_received"):
    """A signed webhook was verified and accepted."""

    integration: str = Field(description="Who it was for")
    topics: tuple[str, ...] = Field(default=(), description="What it was published as; empty for a ping")
    size: int = Field(ge=0, description="Bytes of its body")

    @classmethod
    def example(cls) -> WebhookReceived:
        return cls(integration="github", topics=("github.push",), size=7104)


class IntegrationDrill(Payload, topic="integration.drill.*"):
    """A worker is to send one marked notification; the topic ends with the integration's name."""

    integration: str = Field(description="Which one")
    target: str = Field(default="default", description="Which of its targets")
    to: str = Field(default="", description="Channel, person or address; empty: the integration's own")
    drill: str = Field(description="Identifies the drill")
    until: AwareDatetime = Field(description="Nobody waits for it any more then")

    @classmethod
    def example(cls) -> IntegrationDrill:
        return cls(integration="slack", drill="0199b3f0", until=datetime(2026, 1, 12, 10, 30, tzinfo=UTC))


class IntegrationDegraded(Payload, topic="integration.degraded", key="integration"):
    """An integration stopped working; its events wait."""

    integration: str = Field(description="Which one")
    detail: str = Field(description="What it met, for people")

    @classmethod
    def example(cls) -> IntegrationDegraded:
        return cls(integration="slack", detail="slack.com answers 503")


class IntegrationDisabled(Payload, topic="integration.disabled", key="integration"):
    """An integration was switched off, or one target of it; its events wait until a person switches it on again."""

    integration: str = Field(description="Which one, with its target where it has several: webhook.billing")
    detail: str = Field(description="By whom and why, for people")

    @classmethod
    def example(cls) -> IntegrationDisabled:
        return cls(integration="webhook.billing", detail="the receiver answered 410: it wants no more webhooks")


class IntegrationRecovered(Payload, topic="integration.recovered", key="integration"):
    """An integration works again; its events flow."""

    integration: str = Field(description="Which one")
    detail: str = Field(default="", description="For people")

    @classmethod
    def example(cls) -> IntegrationRecovered:
        return cls(integration="slack", detail="healthy after 94 s")
