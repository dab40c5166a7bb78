"""CloudEvents 1.0 JSON both ways, with the CloudEvents project's own Python SDK as the other side."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from eventbus import Event, InvalidEvent, catalog
from eventbus.codec import from_cloudevent, to_cloudevent
from eventbus.topics import VmCreated

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
LEAST = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "custom.order"}


def full() -> Event[Any]:
    return catalog.event(
        VmCreated(vm_id="vm-1", vcpus=2),
        source="/cli",
        subject="vm-1",
        idempotency_key="request-1",
        correlation_id="deploy-7",
        causation_id="event-6",
        traceparent=TRACE,
    )


def test_the_sdk_reads_what_we_write() -> None:
    event = full()

    read = JSONFormat().read(CloudEvent, json.dumps(to_cloudevent(event)))

    assert (read.get_id(), read.get_source(), read.get_type()) == (event.id, "/cli", "vm.created")
    assert (read.get_specversion(), read.get_datacontenttype()) == ("1.0", "application/json")
    assert (read.get_subject(), read.get_time()) == ("vm-1", event.time)
    assert read.get_data() == event.data.model_dump(mode="json")
    assert {name: read.get_extension(name) for name in ("partitionkey", "idempotencykey", "correlationid")} == {
        "partitionkey": "vm_id:vm-1",
        "idempotencykey": "request-1",
        "correlationid": "deploy-7",
    }
    assert read.get_extension("traceparent") == TRACE


def test_we_read_what_the_sdk_writes() -> None:
    attributes = {
        "id": "A-1",
        "source": "https://shop.example/orders",
        "type": "custom.order",
        "subject": "order 7",
        "time": datetime(2026, 1, 12, 10, 30, tzinfo=UTC),
        "datacontenttype": "application/json",
        "partitionkey": "customer-3",
    }
    written = JSONFormat().write(CloudEvent(attributes, {"order": 7, "note": None}))

    event = from_cloudevent(json.loads(written))

    assert (event.id, event.source, event.topic) == ("A-1", "https://shop.example/orders", "custom.order")
    assert (event.subject, event.time, event.key) == ("order 7", attributes["time"], "customer-3")
    assert event.data == {"order": 7, "note": None}


@pytest.mark.parametrize("event", [full(), Event(topic="custom.x", data={"a": None})], ids=["full", "least"])
def test_there_and_back_loses_nothing(event: Event[Any]) -> None:
    assert from_cloudevent(json.loads(json.dumps(to_cloudevent(event)))) == event


def test_there_and_back_through_the_sdk_loses_nothing() -> None:
    event = full()
    sdk = JSONFormat()

    written = sdk.write(sdk.read(CloudEvent, json.dumps(to_cloudevent(event))))

    assert from_cloudevent(json.loads(written)) == event


def test_the_least_a_cloudevent_may_have_is_enough() -> None:
    event = from_cloudevent(LEAST)

    assert (event.id, event.idempotency_key, event.data) == ("1", "1", {})


@pytest.mark.parametrize("name", ["time", "subject", "datacontenttype", "dataversion", "partitionkey", "data"])
def test_an_attribute_that_is_null_counts_as_absent(name: str) -> None:
    """JSON event format 1.0.2, section 2.2."""
    event = from_cloudevent({**LEAST, name: None})

    assert event.model_dump(exclude={"time"}) == from_cloudevent(LEAST).model_dump(exclude={"time"})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"specversion": "0.3"}, "specversion: only 1.0 is understood"),
        ({"specversion": None}, "specversion"),
        ({"id": None}, "a CloudEvent needs id"),
        ({"source": None, "type": None}, "a CloudEvent needs source, type"),
        ({"id": ""}, "id: "),
        ({"id": 7}, "id: "),
        ({"type": 7}, "type: must be a string"),
        ({"type": "com.Example"}, "is not a topic"),
        ({"time": "yesterday"}, "time: "),
        ({"time": "2026-01-12T10:30:00"}, "time: "),
        ({"data": [1]}, "data"),
        ({"data_base64": "eA=="}, "data_base64: only JSON data is understood"),
        ({"datacontenttype": "text/xml"}, "datacontenttype: only application/json is understood"),
        ({"datacontenttype": 7}, "datacontenttype"),
        ({"dataversion": "two"}, "version: "),
        ({"flavour": "sweet"}, "flavour: "),
        ({"topic": "custom.other"}, "topic: not attributes we know"),
        ({"key": "k"}, "key: not attributes we know"),
        ({"version": "v3"}, "version: not attributes we know"),
        ({"what": "ever"}, "what"),
        ({"traceparent": "00-1-2-3"}, "traceparent: "),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        from_cloudevent({**LEAST, **change})

    assert says in str(caught.value)


@pytest.mark.parametrize("value", [None, [], "text", 7])
def test_what_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(InvalidEvent, match="a CloudEvent is a JSON object"):
        from_cloudevent(value)


def test_extension_names_are_lower_case_letters_and_digits() -> None:
    """CloudEvents 1.0.2, section 3.1."""
    assert all(name.isalnum() and name.islower() for name in to_cloudevent(full()))
