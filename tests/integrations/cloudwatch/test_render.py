"""What is put: data as CloudWatch takes them, whatever events say."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.topics import MigrationCompleted, MigrationFailed
from integrations.cloudwatch.config import CloudWatchConfig
from integrations.cloudwatch.fake import check
from integrations.cloudwatch.render import Call, Skipped, call_for, plain
from integrations.errors import Rejected


def config(**settings: Any) -> CloudWatchConfig:
    return CloudWatchConfig.model_validate({"region": "eu-central-1"} | settings)


def completed(*, time: datetime | None = None, **changes: Any) -> Event[Any]:
    data = {"migration": "add_email", "environment": "production", "duration_ms": 2310} | changes
    return catalog.event(MigrationCompleted.model_validate(data), time=time or datetime.now(UTC))


def put(event: Event[Any], **settings: Any) -> dict[str, Any]:
    call = call_for(event, config(**settings), datetime.now(UTC))
    assert isinstance(call, Call)
    asked: dict[str, Any] = json.loads(call.content)
    assert list(check(asked)) == []
    return asked


def test_a_completed_migration_is_put_as_documented() -> None:
    event = completed()
    asked = put(event)
    assert asked["Namespace"] == "Confiture"
    (datum,) = asked["MetricData"]
    assert datum == {
        "MetricName": "MigrationDuration",
        "Value": 2310,
        "Unit": "Milliseconds",
        "Dimensions": [{"Name": "Environment", "Value": "production"}, {"Name": "Migration", "Value": "add_email"}],
        "Timestamp": round(event.time.timestamp(), 3),
        "StorageResolution": 60,
    }


def test_a_failed_migration_is_counted() -> None:
    (datum,) = put(catalog.event(MigrationFailed(migration="m", environment="staging", error="e")))["MetricData"]
    assert (datum["MetricName"], datum["Value"], datum["Unit"]) == ("MigrationsFailed", 1, "Count")


def test_what_the_event_does_not_say_is_no_dimension() -> None:
    (datum,) = put(completed(environment=None))["MetricData"]
    assert [one["Name"] for one in datum["Dimensions"]] == ["Migration"]


def test_dimensions_and_resolution_of_the_settings_are_on_everything() -> None:
    (datum,) = put(completed(), dimensions={"Service": "checkout", "Environment": "all"}, resolution=1)["MetricData"]
    assert {one["Name"]: one["Value"] for one in datum["Dimensions"]} == {
        "Environment": "all",
        "Migration": "add_email",
        "Service": "checkout",
    }
    assert datum["StorageResolution"] == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [("Übung", "Ubung"), ("日本", "??"), ("a\u200bb", "a?b"), ("ﬁx", "fix"), ("x" * 2000, "x" * 1024), ("", "")],
)
def test_text_becomes_printable_ascii(text: str, value: str) -> None:
    assert plain(text) == value


@given(st.text(min_size=1, max_size=400))
def test_any_text_becomes_a_dimension_that_cloudwatch_takes(text: str) -> None:
    put(catalog.event("a.b", {"text": text}), measures=[_counting({"Text": "data.text"})])


def _counting(labels: dict[str, str], **changes: Any) -> dict[str, Any]:
    return {"name": "N", "type": "counter", "topics": ["a.b"], "labels": labels} | changes


@pytest.mark.parametrize("away", [timedelta(days=-13, hours=-23), timedelta(hours=1, minutes=59)])
def test_two_weeks_back_and_two_hours_ahead_are_taken(away: timedelta) -> None:
    put(completed(time=datetime.now(UTC) + away))


@pytest.mark.parametrize("away", [timedelta(days=-14, seconds=-1), timedelta(hours=2, minutes=1)])
def test_what_is_older_or_further_ahead_is_refused(away: timedelta) -> None:
    with pytest.raises(Rejected, match="from 2 weeks ago to 2 hours ahead"):
        put(completed(time=datetime.now(UTC) + away))


@pytest.mark.parametrize("value", [2.0**361, -(2.0**361)])
def test_a_number_beyond_what_is_taken_is_refused(value: float) -> None:
    gauge = _counting({}, type="gauge", value="data.n")
    with pytest.raises(Rejected, match=r"-2\^360 to 2\^360"):
        put(catalog.event("a.b", {"n": value}), measures=[gauge])


@pytest.mark.parametrize("value", [None, "12", True, [1]])
def test_what_is_no_number_is_skipped_and_named(value: Any) -> None:
    event = catalog.event("a.b", {"n": value})
    made = call_for(event, config(measures=[_counting({}, value="data.n")]), datetime.now(UTC))
    assert made == Skipped("N: no number at data.n")


def test_a_number_that_is_missing_is_named_beside_what_is_put() -> None:
    measures = [_counting({}), _counting({}, name="M", value="data.n")]
    made = call_for(catalog.event("a.b", {}), config(measures=measures), datetime.now(UTC))
    assert isinstance(made, Call)
    assert (made.doing, made.missing) == ("put N", ("M: no number at data.n",))


def test_more_than_a_megabyte_is_refused() -> None:
    labels = {f"D{n}": "data.text" for n in range(30)}
    measures = [_counting(labels, name=f"N{n}") for n in range(400)]
    with pytest.raises(Rejected, match="CloudWatch takes 1 MB"):
        put(catalog.event("a.b", {"text": "x" * 200}), measures=measures)
