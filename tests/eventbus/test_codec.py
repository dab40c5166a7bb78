"""The wire: what is written is read again whole, and what could not be read is not written."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus import Event, InvalidEvent, catalog
from eventbus.codec import MAX_EVENT_BYTES, decode, encode, fingerprint
from eventbus.publisher import letter
from eventbus.topics import TaskCompleted, VmCreated

GOLDEN = Path(__file__).parents[1] / "golden"

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
short = st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)


@given(
    data=st.dictionaries(text, json_values, max_size=5),
    key=short,
    subject=short,
    moment=st.datetimes(timezones=st.just(UTC)),
    version=st.integers(1, 2**31),
)
def test_what_is_written_is_read_again_whole(
    data: dict[str, Any], key: str | None, subject: str | None, moment: datetime, version: int
) -> None:
    event = catalog.event("custom.any", data, key=key, subject=subject, time=moment, version=version)

    assert decode("custom.any", encode(event)) == event


@given(result=json_values, extra=st.dictionaries(text.map("x_{}".format), json_values, max_size=3))
def test_typed_data_is_read_again_whole_extra_fields_included(result: Any, extra: dict[str, Any]) -> None:
    event = catalog.event("task.completed", {"task_id": "task-1", "result": result, **extra})
    again = decode("task.completed", encode(event))

    assert again == event
    assert isinstance(again.data, TaskCompleted)
    assert again.data.model_extra == extra


def test_a_null_inside_the_data_stays_while_empty_fields_of_the_envelope_are_left_out() -> None:
    written = json.loads(encode(catalog.event("custom.x", {"gone": None, "list": [None]})))

    assert written["data"] == {"gone": None, "list": [None]}
    assert written.keys() == {"id", "topic", "source", "time", "data", "idempotency_key", "version"}


def test_the_limit_is_in_bytes_of_the_whole_event() -> None:
    def sized(count: int) -> Event[Any]:
        return Event(id="1", topic="custom.x", data={"text": "x" * count})

    room = MAX_EVENT_BYTES - len(encode(sized(0)))
    assert len(encode(sized(room))) == MAX_EVENT_BYTES

    with pytest.raises(InvalidEvent, match=r"custom\.x: the event has 262,145 bytes, 262,144 is the limit: store the"):
        encode(sized(room + 1))


def _nested(levels: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _ in range(levels):
        data = {"d": data}
    return data


@pytest.mark.parametrize(
    "data",
    [{"a": nan}, {"a": [inf]}, {"a": {"b": -inf}}, {"a": "\ud800"}, {"\udfff": 1}, _nested(200), {"a": 10**5000}],
    ids=["nan", "infinity", "minus infinity", "lone surrogate", "in a name", "200 levels", "5001 digits"],
)
def test_what_could_not_be_read_again_is_not_written(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent, match=r"custom\.x: can't be written as JSON"):
        letter(Event(topic="custom.x", data=data), remember=timedelta(hours=1))


@pytest.mark.parametrize(
    "payload",
    [
        TaskCompleted(task_id="1", duration_ms=inf),
        TaskCompleted(task_id="1", result={"deep": [nan]}),
        VmCreated.model_validate({"vm_id": "1", "load": nan}),
        VmCreated.model_validate({"vm_id": "1", "load": object()}),
    ],
    ids=["a float field", "a JSON field", "an extra field", "an extra object"],
)
def test_nor_is_it_inside_a_payload(payload: TaskCompleted | VmCreated) -> None:
    with pytest.raises(InvalidEvent, match="can't be written as JSON"):
        encode(catalog.event(payload))


def test_190_levels_are_fine() -> None:
    event = catalog.event("custom.x", _nested(190))

    assert decode("custom.x", encode(event)) == event


@pytest.mark.parametrize(
    "wire",
    [b"", b"\xff", b"{", b"[]", b"null", b'{"data":{}}', b'{"topic":"vm.created","data":{"vcpus":2}}'],
)
def test_bytes_that_are_no_event_are_told_as_such(wire: bytes) -> None:
    with pytest.raises(InvalidEvent, match=r"vm\.created: "):
        decode("vm.created", wire)


def test_a_fingerprint_is_of_what_the_event_says() -> None:
    first = catalog.event(VmCreated(vm_id="vm-1"))
    said = fingerprint(encode(first))

    assert said == fingerprint(encode(catalog.event(VmCreated(vm_id="vm-1"), correlation_id="another")))
    assert said != fingerprint(encode(catalog.event(VmCreated(vm_id="vm-2"))))
    for change in ({"subject": "vm-1"}, {"key": "k"}, {"version": 2}, {"topic": "vm.started"}):
        assert said != fingerprint(encode(first.model_copy(update=change)))


def test_what_looks_like_the_envelope_inside_a_string_does_not_move_the_fingerprint() -> None:
    tricky = 'a,"topic":"vm.created","data":{}'
    one, other = (
        catalog.event("custom.x", {"n": n}, source=tricky, idempotency_key=tricky, correlation_id=tricky)
        for n in (1, 2)
    )

    assert fingerprint(encode(one)) != fingerprint(encode(other))
    assert fingerprint(encode(one)) == fingerprint(encode(catalog.event("custom.x", {"n": 1})))


@pytest.mark.parametrize("sample", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_the_wire_of_the_last_release_is_read_and_written_the_same(sample: Path) -> None:
    wire = sample.read_bytes().rstrip(b"\n")

    event = decode(json.loads(wire)["topic"], wire)

    assert encode(event) == wire


def test_there_is_a_golden_sample_of_typed_and_of_free_data() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} >= {"vm_created", "custom"}
