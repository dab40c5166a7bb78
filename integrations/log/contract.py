"""`log` keeps what of the contract concerns an adapter without a service: `pytest --integration log` runs this."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import structlog.testing
from starlette.routing import BaseRoute

from eventbus.catalog import catalog
from eventbus.topics import TaskFailed
from integrations.log.adapter import Log
from integrations.testing.contract import AdapterContract
from integrations.testing.fake import FakeService


class Reader(FakeService):
    """Who reads the log: a line is known by its delivery key, so a repeated one tells nothing new."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[MutableMapping[str, Any]] = []
        self._reading = ExitStack()

    def routes(self) -> Sequence[BaseRoute]:
        return []

    def settings(self) -> dict[str, Any]:
        return {"level": "info"}

    def effects(self) -> list[str]:
        return list(dict.fromkeys(line["delivery_key"] for line in self._lines if "delivery_key" in line))

    async def __aenter__(self) -> Self:
        self._lines = self._reading.enter_context(structlog.testing.capture_logs())
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.close()
        await super().__aexit__(kind, error, trace)


class TestLog(AdapterContract):
    """It reaches nothing, so most rules have nothing to say about it."""

    adapter = Log
    fake = Reader
    event = catalog.event(TaskFailed(task_id="task-42", error="2 of 310 tests failed"))
    has_service = False
