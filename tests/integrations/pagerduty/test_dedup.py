from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.topics import IntegrationDegraded, MigrationFailed, TaskFailed, VmFailed
from eventbus.topics.delivery import DeliveryGapFound
from integrations.pagerduty.dedup import MAX_CHARACTERS, WITH_ENVIRONMENT, dedup_key, fitted, warning

WITHOUT = "without_environment"


def key(event: Event[Any], template: str = WITH_ENVIRONMENT, thread: str | None = None) -> str:
    return dedup_key(event, event.key or "" if thread is None else thread, template, "production")


@pytest.mark.parametrize(
    ("event", "with_environment", "without_environment"),
    [
        (
            catalog.event(MigrationFailed(migration="005_pay", error="e")),
            "migration-005_pay-production",
            "migration-005_pay",
        ),
        (catalog.event(TaskFailed(task_id="42", error="e")), "task-42-production", "task-42"),
        (catalog.event(VmFailed(vm_id="42", error="e")), "vm-42-production", "vm-42"),
        (
            catalog.event(IntegrationDegraded(integration="slack", detail="d")),
            "integration-slack-production",
            "integration-slack",
        ),
        (catalog.event("backup.failed", {}, key="nightly"), "backup-nightly-production", "backup-nightly"),
        (catalog.event("backup.failed", {}, subject="db-1"), "backup-db-1-production", "backup-db-1"),
    ],
)
def test_the_presets(event: Event[Any], with_environment: str, without_environment: str) -> None:
    assert (key(event), key(event, WITHOUT)) == (with_environment, without_environment)


def test_failure_and_success_of_one_thing_have_one_key_and_another_thing_has_another() -> None:
    bad, good, other = (
        catalog.event(topic, {"migration": name, "error": "e"}, key=f"migration:{name}")
        for topic, name in (("migration.failed", "a"), ("migration.completed", "a"), ("migration.failed", "b"))
    )
    assert key(bad) == key(good) != key(other)


def test_a_template_that_does_not_fit_the_event_leaves_no_hole() -> None:
    event = catalog.event(TaskFailed(task_id="42", error="e"))
    assert key(event, "confiture-{migration}") == "task-42-production"


def test_what_nothing_names_stands_alone() -> None:
    first, second = catalog.event("backup.failed", {}), catalog.event("backup.failed", {})
    assert key(first) != key(second)
    assert first.id in key(first)


def test_a_gap_is_named_by_its_group() -> None:
    event = catalog.event(DeliveryGapFound.example().model_copy(update={"group": "slack"}))
    assert key(event) == "delivery-slack-production"


def test_the_thread_of_a_route_is_taken_as_it_is() -> None:
    event = catalog.event(TaskFailed(task_id="42", error="e"))
    assert key(event, thread="nightly") == "nightly"


@given(st.text(min_size=1, max_size=2000))
def test_no_key_is_too_long_and_long_ones_stay_apart(name: str) -> None:
    found = fitted(name)
    assert len(found) <= MAX_CHARACTERS
    assert found.isprintable() or not name.isascii()
    assert len(fitted("x" * 300 + name)) == MAX_CHARACTERS
    assert fitted("x" * 300 + name) != fitted("x" * 300 + name + "y")


def test_the_time_or_id_of_the_event_in_a_key_is_seen_and_a_migrations_date_is_not() -> None:
    event = catalog.event(
        MigrationFailed(migration="20260112103000_add_email", error="e"), time=datetime(2026, 1, 12, 10, 31, tzinfo=UTC)
    )
    assert warning("migration-20260112103000_add_email", event) == ""
    for part in (event.id, str(int(event.time.timestamp())), "2026-01-12T10:31:00Z"):
        assert "no later event will resolve" in warning(f"confiture-{part}", event)
