"""What an event measures: paths, labels, what gives no reading, and which measures are refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from eventbus import Event
from eventbus.catalog import catalog
from eventbus.topics import MigrationCompleted, MigrationFailed, TaskCompleted
from integrations.measure import MAX_LABEL, Measure, asked_by, read, topics_of, unread

DONE = catalog.event(
    MigrationCompleted(migration="add_email", environment="production", duration_ms=2310, rows_affected=7)
)


def measure(**fields: Any) -> Measure:
    return Measure.model_validate({"name": "x", "type": "counter", "topics": ["migration.*"], **fields})


def event(topic: str = "shop.order.paid", **data: Any) -> Event[Any]:
    return catalog.event(topic, data)


def value(event: Event[Any], **fields: Any) -> float | None:
    found = read([measure(type="gauge", topics=[">"], **fields)], event)
    return found[0].value if found else None


def label(source: Any, event: Event[Any]) -> str:
    (reading,) = read([measure(topics=[">"], labels={"it": source})], event)
    return reading.labels["it"]


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_a_counter_without_a_value_counts_events() -> None:
    (reading,) = read([measure()], DONE)
    assert (reading.name, reading.type, reading.value, reading.labels) == ("x", "counter", 1, {})


def test_a_number_is_found_by_its_path_and_scaled() -> None:
    assert value(DONE, value="data.duration_ms", scale=0.001) == pytest.approx(2.31)
    assert value(DONE, value="data.rows_affected") == 7
    assert value(event(hosts=[{"load": 1.5}, {"load": 2.5}]), value="data.hosts.1.load") == 2.5


@pytest.mark.parametrize(
    "given", [None, "12", "", True, False, [], {}, [1], math.nan, math.inf, -math.inf, 10**400, 1e308]
)
def test_what_is_no_number_gives_no_reading_and_is_named(given: Any) -> None:
    one = measure(type="gauge", topics=[">"], value="data.n", scale=10)
    sent = Event(topic="shop.order.paid", data={"n": given})
    assert read([one], sent) == ()
    assert unread([one], sent) == ("x: no number at data.n",)


@pytest.mark.parametrize("path", ["data.none", "data.n.deeper", "data.list.9", "data.list.x", "data.list.-1"])
def test_a_path_that_leads_nowhere_gives_no_reading(path: str) -> None:
    assert value(event(n=1, list=[1, 2]), value=path) is None


def test_a_number_is_chosen_by_topic_and_the_first_pattern_wins() -> None:
    chosen = {"shop.closed": 1, "shop.*": 0}
    assert value(event("shop.closed"), value=chosen) == 1
    assert value(event("shop.opened"), value=chosen) == 0
    one = measure(type="gauge", topics=[">"], value=chosen)
    assert read([one], event("house.opened")) == ()
    assert unread([one], event("house.opened")) == ("x: no number for this topic",)


@pytest.mark.parametrize("kind", ["counter", "histogram"])
@pytest.mark.parametrize("given", [-1, -0.5, 2**53 + 2, 1e305])
def test_a_number_that_would_spoil_a_sum_for_good_gives_no_reading_and_is_named(kind: str, given: float) -> None:
    one = measure(type=kind, topics=[">"], value="data.n")
    assert read([one], event(n=given)) == ()
    assert unread([one], event(n=given)) == (f"x: {given:g} can't be added up: a {kind} takes 0 to 9.0072e+15",)
    assert value(event(n=given), value="data.n") == given, "a gauge adds nothing up"


@pytest.mark.parametrize("kind", ["counter", "histogram"])
@pytest.mark.parametrize("given", [0, 0.5, 2**53])
def test_what_can_be_added_up_is_read(kind: str, given: float) -> None:
    one = measure(type=kind, topics=[">"], value="data.n")
    assert [reading.value for reading in read([one], event(n=given))] == [given]


def test_each_measure_that_asks_for_the_topic_reads_and_no_other() -> None:
    measures = [measure(name="a"), measure(name="b", topics=["task.*"]), measure(name="c", topics=["vm.*", ">"])]
    assert [reading.name for reading in read(measures, DONE)] == ["a", "c"]
    assert [one.name for one in asked_by(measures, DONE)] == ["a", "c"]
    assert unread(measures, DONE) == ()
    assert topics_of(measures) == ("migration.*", "task.*", "vm.*", ">")


# -- labels ------------------------------------------------------------------------------------------------------------


def test_a_label_is_a_field_the_topic_a_word_of_it_or_a_text() -> None:
    sent = event(shop={"country": "fr"}, big=True, n=3, f=0.5)
    found = [
        label(source, sent)
        for source in (
            *("data.shop.country", "data.big", "data.n", "data.f"),
            *("topic", "topic.1", "topic.3", "=checkout", "="),
        )
    ]
    assert found == ["fr", "true", "3", "0.5", "shop.order.paid", "shop", "paid", "checkout", ""]


def test_a_label_is_chosen_by_topic_and_the_first_pattern_wins() -> None:
    outcome = {"migration.completed": "success", "migration.*": "other", "*.failed": "failure"}
    assert label(outcome, DONE) == "success"
    assert label(outcome, catalog.event(MigrationFailed(migration="a", error="x"))) == "other"
    assert label(outcome, event("shop.failed")) == "failure"
    assert label(outcome, event("shop.open")) == ""


@pytest.mark.parametrize("source", ["data.none", "data.list", "data.table", "data.nothing", "topic.9"])
def test_what_the_event_does_not_say_is_empty(source: str) -> None:
    assert label(source, event(list=["a"], table={"a": 1}, nothing=None)) == ""


def test_labels_keep_the_order_of_the_measure() -> None:
    one = measure(labels={"z": "=1", "a": "=2", "m": "=3"})
    assert [*read([one], DONE)[0].labels] == ["z", "a", "m"]


def test_a_label_is_one_short_line_that_can_be_encoded() -> None:
    sent = Event(topic="shop.order.paid", data={"a": " x\r\ny\x00\x1b[31m\u2028z\ud800 ", "b": "ü" * 1000})
    assert label("data.a", sent) == "x y [31m z"
    assert label("data.b", sent) == "ü" * MAX_LABEL
    label("data.a", sent).encode()


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"type": "gauge"}, "needs value"),
        ({"type": "histogram"}, "needs value"),
        ({"topics": []}, "topics"),
        ({"topics": ["Migration.*"]}, "is not a topic pattern"),
        ({"value": "duration_ms"}, "write it as data.duration_ms"),
        ({"value": "data."}, "write it as data.duration_ms"),
        ({"scale": 0}, "greater than 0"),
        ({"scale": math.nan}, "finite"),
        ({"labels": {"a": "environment"}}, "write data.environment, topic, topic.2 or =text"),
        ({"labels": {"a": "topic.0"}}, "says no label's value"),
        ({"labels": {"a": {"UP": "x"}}}, "is not a topic pattern"),
        ({"buckets": [1]}, "only a histogram has buckets"),
        ({"type": "histogram", "value": "data.n", "buckets": [1, 1]}, "do not rise"),
        ({"type": "histogram", "value": "data.n", "buckets": [2, 1]}, "do not rise"),
        ({"type": "histogram", "value": "data.n", "buckets": [math.inf]}, "finite"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_a_measure_that_can_not_work_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        measure(**fields)


def test_a_payload_and_plain_data_are_read_alike() -> None:
    typed = catalog.event(TaskCompleted(task_id="1", duration_ms=5))
    plain = Event(topic="task.completed", data={"task_id": "1", "duration_ms": 5.0})
    one = measure(type="gauge", topics=["task.*"], value="data.duration_ms", labels={"task": "data.task_id"})
    assert read([one], typed) == read([one], plain)
