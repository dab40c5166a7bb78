"""`notification.due.*`: the times at which groups of notifications are looked at; one topic for each integration.

The registry publishes them to itself, so that a time survives every crash and is met by exactly one worker. They ask
nothing of routes and adapters.
"""

from __future__ import annotations

from pydantic import Field

from eventbus.payload import Payload

DUE = "notification.due"
"""Followed by the integration's name, so that each gets its own times only."""


class NotificationDue(Payload, topic=f"{DUE}.*", key="group"):
    """A group of notifications is to be looked at, and told of if there is anything to tell."""

    integration: str = Field(description="Who would be told")
    target: str = Field(default="default", description="Which of its targets")
    route: str = Field(description="The route that groups")
    group: str = Field(description="Identifies the group; its times are met in order")
    born: str = Field(description="Which life of the group: one that ended does not answer any more")
    number: int = Field(ge=1, description="The how manieth time of this life")

    @classmethod
    def example(cls) -> NotificationDue:
        return cls(integration="slack", route="failures", group="4f1c9c2a", born="9d2e01aa", number=1)
