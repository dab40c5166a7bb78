"""CloudWatch keeps the contract of every adapter: `pytest --integration cloudwatch` runs this."""

from __future__ import annotations

from eventbus.catalog import catalog
from eventbus.topics import MigrationCompleted
from integrations.cloudwatch.adapter import CloudWatch
from integrations.cloudwatch.fake import FakeCloudWatch
from integrations.testing.contract import AdapterContract


class SmallAccount(FakeCloudWatch):
    """One with a quota that 200 events at once exceed."""

    per_second = 100


class TestCloudWatch(AdapterContract):
    """One account in one region."""

    adapter = CloudWatch
    fake = SmallAccount
    event = catalog.event(MigrationCompleted(migration="add_user_email", environment="production", duration_ms=2310))
