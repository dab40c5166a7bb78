"""Events and payloads as values: ids, times, keys, and that nothing of them can change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from time import time
from uuid import RFC_4122, UUID

import pytest
from pydantic import ValidationError

from eventbus import Event, catalog
from eventbus.event import new_id
from eventbus.topics import GitHubWebhook, VmCreated


def test_an_id_is_a_uuid_of_version_7() -> None:
    """RFC 9562, section 5.7: 48 bits of milliseconds, version 7, variant 10."""
    before = int(time() * 1000)
    made = UUID(new_id())

    assert (made.version, made.variant) == (7, RFC_4122)
    assert before <= made.int >> 80 <= int(time() * 1000)


def test_ids_are_unique() -> None:
    assert len({new_id() for _ in range(20_000)}) == 20_000


def test_ids_sort_by_the_millisecond_of_their_making(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = [1_700_000_000_000_000_000 + n * 1_000_000 for n in range(300)]
    clock = iter(moments)
    monkeypatch.setattr("eventbus.event._time.time_ns", lambda: next(clock))

    ids = [new_id() for _ in moments]

    assert ids == sorted(ids)


def test_the_idempotency_key_is_the_id_unless_given() -> None:
    event = Event(topic="custom.x", data={})

    assert event.idempotency_key == event.id
    assert Event(topic="custom.x", data={}, idempotency_key="mine").idempotency_key == "mine"


def test_times_are_aware_and_kept_in_utc() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))

    assert Event(topic="custom.x", data={}, time=noon).time == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert Event(topic="custom.x", data={}, time=noon).time.tzinfo is UTC
    with pytest.raises(ValidationError, match="timezone"):
        Event(topic="custom.x", data={}, time=noon.replace(tzinfo=None))


def test_events_and_payloads_are_frozen() -> None:
    event = catalog.event(VmCreated(vm_id="vm-1"))

    with pytest.raises(ValidationError, match="frozen"):
        setattr(event, "topic", "vm.started")  # noqa: B010  a type checker would refuse the assignment
    with pytest.raises(ValidationError, match="frozen"):
        event.data.vm_id = "vm-2"


@pytest.mark.parametrize("field", ["id", "source", "key", "subject", "idempotency_key", "correlation_id"])
def test_a_text_of_the_envelope_has_500_characters_at_most(field: str) -> None:
    with pytest.raises(ValidationError, match="at most 500 characters"):
        Event.model_validate({"topic": "custom.x", "data": {}, field: "x" * 501})


@pytest.mark.parametrize("value", ["", "01-" + "0" * 32 + "-" + "0" * 16 + "-01", "00-xyz", "00-" + "0" * 49])
def test_a_traceparent_has_the_form_of_the_w3c(value: str) -> None:
    with pytest.raises(ValidationError, match="traceparent"):
        Event(topic="custom.x", data={}, traceparent=value)


def test_the_ordering_key_names_its_field() -> None:
    assert catalog.event(VmCreated(vm_id="vm-1")).key == "vm_id:vm-1"


def test_a_payload_may_make_its_own_ordering_key() -> None:
    hook = GitHubWebhook(delivery="1", event="issues", repository="acme/api", number=7)

    assert catalog.event("github.issues", hook).key == "github:acme/api#7"
    assert catalog.event("github.ping", {"delivery": "1", "event": "ping"}).key is None


def test_a_given_key_wins() -> None:
    assert catalog.event(VmCreated(vm_id="vm-1"), key="rack-4").key == "rack-4"


def test_fields_a_newer_program_added_are_kept() -> None:
    event = catalog.event("vm.created", {"vm_id": "vm-1", "gpu": "h100"})

    assert event.data.model_dump()["gpu"] == "h100"
