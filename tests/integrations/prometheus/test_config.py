"""Which settings are refused, with what is wrong and what to do; and what is measured then."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from integrations.prometheus.config import BUCKETS, MEASURES, PrometheusConfig

COUNTER = {"name": "orders_total", "type": "counter", "topics": ["shop.order.paid"]}
GAUGE = {"name": "load", "type": "gauge", "topics": ["host.*"], "value": "data.load"}
HISTOGRAM = {"name": "order_seconds", "type": "histogram", "topics": ["shop.*"], "value": "data.s"}


def settings(*measures: dict[str, Any], **fields: Any) -> PrometheusConfig:
    return PrometheusConfig.model_validate({"measures": measures, **fields})


def test_the_names_labels_and_buckets_of_the_integrations_guide_are_built_in() -> None:
    by_name = {one.name: one for one in PrometheusConfig().active}
    assert set(by_name["tb_confiture_total"].labels) == {"environment", "status"}
    assert set(by_name["confiture_migration_duration_seconds"].labels) == {"migration_name"}
    assert [*by_name["confiture_migration_duration_seconds"].buckets] == [0.1, 0.5, 1, 5, 10, 30, 60, 120, 300]
    assert set(by_name["confiture_pending_migrations"].labels) == {"environment"}


def test_what_is_built_in_is_a_setting_that_would_be_accepted() -> None:
    names = [one.name.replace("event_bus", "my") for one in MEASURES]
    own = [one.model_dump() | {"name": name} for one, name in zip(MEASURES, names, strict=True)]
    assert [one.name for one in settings(*own, defaults=False).active] == names


def test_more_measures_stand_beside_what_is_built_in_or_in_its_place() -> None:
    other = {"name": "tb_confiture_total", "type": "counter", "topics": ["schema.applied"]}
    active = settings(COUNTER, other).active
    assert [one.name for one in active].count("tb_confiture_total") == 1
    assert active[-1].topics == ("schema.applied",)
    assert len(active) == len(MEASURES) + 1
    assert [one.name for one in settings(COUNTER, defaults=False).active] == ["orders_total"]


def test_a_histogram_without_buckets_gets_those_of_durations() -> None:
    assert settings(HISTOGRAM).active[-1].buckets == BUCKETS
    assert settings(HISTOGRAM | {"buckets": [1, 2]}).active[-1].buckets == (1, 2)


def test_several_measures_may_be_one_metric() -> None:
    rates = [GAUGE | {"name": "hit_rate", "value": f"data.{c}", "labels": {"cache": f"={c}"}} for c in ("ast", "sql")]
    assert [one.name for one in settings(*rates, defaults=False).active] == ["hit_rate", "hit_rate"]


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        (COUNTER | {"name": "orders"}, "call it orders_total"),
        (COUNTER | {"name": "shop-orders_total"}, "is no metric name"),
        (COUNTER | {"name": "shop:orders_total"}, "is no metric name"),
        (COUNTER | {"name": "2orders_total"}, "is no metric name"),
        (COUNTER | {"name": "ürders_total"}, "is no metric name"),
        (COUNTER | {"name": "orders_total\n"}, "is no metric name"),
        (COUNTER | {"name": "event_bus_readings_dropped_total"}, "choose another name"),
        (GAUGE | {"name": "load_total"}, "drop the last word"),
        (GAUGE | {"name": "order_seconds_sum"}, "drop the last word"),
        (HISTOGRAM | {"name": "order_bucket"}, "drop the last word"),
        (HISTOGRAM | {"name": "order_count"}, "drop the last word"),
        (HISTOGRAM | {"labels": {"le": "topic"}}, "not le in a histogram"),
        (HISTOGRAM | {"buckets": [-1, 1]}, "its sum could go down"),
        (COUNTER | {"labels": {"__name__": "topic"}}, "has the label '__name__'"),
        (COUNTER | {"labels": {"a-b": "topic"}}, "has the label 'a-b'"),
        (COUNTER | {"labels": {"": "topic"}}, "has the label ''"),
        (COUNTER | {"labels": {"1a": "topic"}}, "has the label '1a'"),
    ],
)
def test_what_prometheus_would_not_take_is_refused_by_name(measure: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(measure)


def test_a_label_le_is_nothing_special_but_in_a_histogram() -> None:
    settings(COUNTER | {"labels": {"le": "topic"}})


@pytest.mark.parametrize(
    "other", [GAUGE | {"name": "orders_total"}, COUNTER | {"labels": {"a": "topic"}}, HISTOGRAM | {"name": "x"}]
)
def test_measures_of_one_name_that_are_not_one_metric_are_refused(other: dict[str, Any]) -> None:
    first = HISTOGRAM | {"name": "x", "buckets": [1, 2]} if other["name"] == "x" else COUNTER
    with pytest.raises(ValidationError, match=r"stands there twice|drop the last word"):
        settings(first, other)


def test_settings_that_measure_nothing_are_refused() -> None:
    with pytest.raises(ValidationError, match="measures nothing"):
        settings(defaults=False)
