"""`delivery.*`: what became of a delivery. These never become dead-letter events in turn."""

from __future__ import annotations

from pydantic import Field

from eventbus.payload import Payload


class DeliveryDeadLettered(Payload, topic="delivery.dead_lettered"):
    """A delivery was given up; it waits among the dead letters of its group."""

    group: str = Field(description="The subscription that could not handle it")
    event_id: str = Field(description="The event")
    event_topic: str = Field(description="Its topic")
    reason: str = Field(description="rejected, exhausted, invalid or poison")
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
