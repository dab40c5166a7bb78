"""`log` writes one line for each thing it is given."""

from __future__ import annotations

from typing import Any

import pytest
import structlog.testing
from pydantic import ValidationError

from eventbus.catalog import catalog
from integrations.base import Artifact, Delivery, Notification, Outcome
from integrations.log import Log
from integrations.log.config import LogConfig
from integrations.testing.context import make_context


async def log(**settings: Any) -> Log:
    adapter = Log()
    await adapter.initialize(make_context(Log, settings))
    return adapter


async def test_everything_becomes_one_line_and_is_delivered() -> None:
    adapter = await log()
    event = catalog.event("custom.thing", {"canary": "canary"}, id="event-1")
    with structlog.testing.capture_logs() as lines:
        results = [
            await adapter.handle_event(event, Delivery("key-1", attempt=2)),
            await adapter.send_notification(Notification(message="canary", target="#ops"), Delivery("key-2")),
            await adapter.create_artifact(Artifact(type="anything", content={"canary": 1}), Delivery("key\n3")),
        ]
    assert [result.outcome for result in results] == [Outcome.DELIVERED] * 3
    common = {"integration": "log", "log_level": "info"}
    event_line = {"topic": "custom.thing", "event_id": "event-1", "source": "/", "attempt": 2}
    assert lines == [
        common | event_line | {"event": "would act on an event", "delivery_key": "key-1"},
        common
        | {"event": "would notify", "kind": "message", "target": "#ops", "severity": "info", "delivery_key": "key-2"},
        common | {"event": "would create an artifact", "kind": "anything", "delivery_key": r"key\n3"},
    ]


async def test_content_is_shown_where_the_settings_ask_for_it() -> None:
    adapter = await log(include_data=True, level="warning")
    with structlog.testing.capture_logs() as lines:
        await adapter.handle_event(catalog.event("custom.thing", {"name": "a\nb"}), Delivery("key-1"))
    assert lines[0]["data"] == {"name": r"a\nb"}
    assert lines[0]["log_level"] == "warning"


async def test_it_is_always_healthy() -> None:
    assert (await (await log()).health()).state == "healthy"


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="level"):
        LogConfig.model_validate({"level": "loud"})
