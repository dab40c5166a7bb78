"""`delivery.*`: what became of a delivery. These never become dead-letter events in turn."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import AwareDatetime, Field

from eventbus.payload import Payload


class DeliveryFailing(Payload, topic="delivery.failing"):
    """A delivery failed again and again; it is still tried. Told once, before it may become a dead letter."""

    group: str = Field(description="The subscription that can not handle it so far")
    event_id: str = Field(description="The event")
    event_topic: str = Field(description="Its topic")
    error: str = Field(default="", description="The last error, for people")
    attempts: int = Field(ge=1, description="How often it was tried")
    next_attempt: AwareDatetime = Field(description="When it is tried again, at the earliest")

    @classmethod
    def example(cls) -> DeliveryFailing:
        return cls(
            group="slack",
            event_id="0199b3f0-0000-7000-8000-000000000000",
            event_topic="vm.created",
            error="ServiceFault: Slack answered 503",
            attempts=4,
            next_attempt=datetime(2026, 1, 12, 10, 30, tzinfo=UTC),
        )


class DeliveryDeadLettered(Payload, topic="delivery.dead_lettered"):
    """A delivery was given up; it waits among the dead letters of its group."""

    group: str = Field(description="The subscription that could not handle it")
    event_id: str = Field(description="The event")
    event_topic: str = Field(description="Its topic")
    reason: str = Field(description="rejected, exhausted, invalid, poison or unknown")
    error: str = Field(default="", description="The last error, for people")
    attempts: int = Field(ge=0, description="How often it was tried")

    @classmethod
    def example(cls) -> DeliveryDeadLettered:
        return cls(
            group="slack",
            event_id="0199b3f0-0000-7000-8000-000000000000",
            event_topic="vm.created",
            reason="rejected",
            error="channel_not_found",
            attempts=1,
        )


class DeliveryGapFound(Payload, topic="delivery.gap_found"):
    """The books of the log do not add up: something was lost, or changed by hand."""

    kind: str = Field(description="rolled back, deleted, foreign, unhandled, uncounted or no place")
    group: str | None = Field(default=None, description="The subscription concerned; none: the log itself")
    first: int = Field(ge=0, description="The first sequence number that may be concerned")
    last: int = Field(ge=0, description="The last one")
    count: int = Field(ge=0, description="How many events; 0 where that can't be said")
    text: str = Field(description="One sentence for people")

    @classmethod
    def example(cls) -> DeliveryGapFound:
        return cls(
            kind="rolled back",
            first=1207,
            last=1247,
            count=41,
            text="Redis lost its newest events: sequence 1,207 to 1,247 (41) were stored and are gone",
        )
