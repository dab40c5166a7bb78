"""The integration without a service: one log line for everything it is given.

For trying routes out before a real service is connected, and for keeping a record of what passed. It makes no effect
that could be doubled, and reaches nothing, so it is always healthy.
"""

from __future__ import annotations

import logging
from typing import Any

from pydantic import BaseModel, ConfigDict

from eventbus.event import Event
from integrations.base import Artifact, Delivery, DeliveryResult, Health, Integration, Manifest, Notification
from integrations.log.config import LogConfig
from integrations.log.render import Line, describe_artifact, describe_event, describe_notification, one_line


class AnyContent(BaseModel):
    """Content of any shape."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{"title": "Move to v2"}]})


class Log(Integration[LogConfig]):
    """Writes a line and calls it delivered."""

    manifest = Manifest(
        name="log",
        title="Log",
        config=LogConfig,
        handles=(">",),
        notifications=("message",),
        artifacts={"comment": AnyContent, "issue": AnyContent, "pull_request": AnyContent},
        effects="repeatable",
        tier="safe",
        limits="None.",
    )

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """Say which event came."""
        line = describe_event(event, data=self.config.include_data)
        return self._write("would act on an event", line | {"attempt": delivery.attempt}, delivery.key)

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        """Say who would be told."""
        line = describe_notification(notification, data=self.config.include_data)
        return self._write("would notify", line, delivery.key)

    async def create_artifact(self, artifact: Artifact, delivery: Delivery) -> DeliveryResult:
        """Say what would be made, of whatever type."""
        line = describe_artifact(artifact, data=self.config.include_data)
        return self._write("would create an artifact", line, delivery.key)

    async def health(self) -> Health:
        """Always healthy: there is nothing to reach."""
        return Health("healthy", "writes to the program's log")

    def _write(self, what: str, line: Line, key: str) -> DeliveryResult:
        level = logging.getLevelNamesMapping()[self.config.level.upper()]
        self.context.log.log(level, what, delivery_key=one_line(key), **line)
        return DeliveryResult.delivered(detail="logged")
