"""Commands and programs read the environment and set up logging; neither goes from one test to the next."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No address from outside, and the logging that a command sets up ends with it."""
    for name in ("EVENTBUS_URL", "EVENTBUS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)
