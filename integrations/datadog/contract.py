"""Datadog keeps the contract of every adapter, on both ways: `pytest --integration datadog` runs this."""

from __future__ import annotations

import pytest

from eventbus.catalog import catalog
from eventbus.topics import MigrationFailed
from integrations.datadog.adapter import Datadog
from integrations.datadog.fake import FakeDatadog
from integrations.datadog.fake_agent import FakeAgent
from integrations.testing.contract import AdapterContract, not_applicable
from integrations.testing.rules import rule_of

EVENT = catalog.event(MigrationFailed(migration="add_user_email", environment="production", error="lock timeout"))
ABOUT_ANSWERS = (6, 7, 8)
"""Rules of what a service answers."""
LOST = 5
"""And of what becomes of a lost answer, or of a crash."""


class TestDatadog(AdapterContract):
    """The API."""

    adapter = Datadog
    fake = FakeDatadog
    event = EVENT


class TestDogStatsD(AdapterContract):
    """An Agent. It answers nothing, so nothing can be lost, limited or refused."""

    adapter = Datadog
    fake = FakeAgent
    event = EVENT

    @pytest.fixture(autouse=True)
    def _nothing_is_answered(self, request: pytest.FixtureRequest) -> None:
        test = request.node.originalname
        rule = rule_of(type(self), test)
        if rule is not None and (rule.number in ABOUT_ANSWERS or (rule.number == LOST and "crash" not in test)):
            not_applicable("DogStatsD answers nothing")
