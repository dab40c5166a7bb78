"""Without an event loop: scripts, hooks and threads publish with `SyncPublisher`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from eventbus import Conflict, Event, EventBus, SyncPublisher
from eventbus.topics import MigrationCompleted


def test_a_script_publishes_and_gets_the_same_receipt(url: str, namespace: str) -> None:
    with SyncPublisher(url, namespace=namespace) as bus:
        receipt = bus.publish(MigrationCompleted(migration="add_user_email", duration_ms=12))

    assert (receipt.status, receipt.topic, receipt.sequence) == ("stored", "migration.completed", 1)


def test_a_repeat_is_stored_once_and_a_conflict_is_told(url: str, namespace: str) -> None:
    with SyncPublisher(url, namespace=namespace) as bus:
        first = bus.publish(MigrationCompleted(migration="add_user_email"), idempotency_key="run-1")
        again = bus.publish(MigrationCompleted(migration="add_user_email"), idempotency_key="run-1")
        with pytest.raises(Conflict):
            bus.publish(MigrationCompleted(migration="drop_users"), idempotency_key="run-1")

    assert (again.status, again.event_id) == ("duplicate", first.event_id)


async def test_a_worker_handles_what_a_script_published(bus: EventBus, url: str, namespace: str) -> None:
    seen: list[str] = []

    @bus.on("migration.>", group="chat")
    async def handle(event: Event[MigrationCompleted]) -> None:
        seen.append(event.data.migration)

    with SyncPublisher(url, namespace=namespace) as script:
        script.publish(MigrationCompleted(migration="add_user_email"))
    await bus.run_until_idle()

    assert seen == ["add_user_email"]


def test_threads_may_share_a_publisher(url: str, namespace: str) -> None:
    with SyncPublisher(url, namespace=namespace) as bus, ThreadPoolExecutor(4) as threads:
        receipts = list(threads.map(lambda n: bus.publish("custom.tick", {"n": n}), range(40)))

    assert sorted(receipt.sequence for receipt in receipts) == list(range(1, 41))
