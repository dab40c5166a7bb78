"""The settings of `prometheus`: what is measured, under which names, and how many series there may be.

Names are checked when the settings are read: one that Prometheus would not take spoils a whole scrape.
"""

from __future__ import annotations

import re
from datetime import timedelta
from functools import cached_property
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from eventbus.tally import MAX_ROWS
from integrations.measure import Measure, chosen

OUTCOME: dict[str, str] = {"*.completed": "success", "*.failed": "failure"}
ENVIRONMENT = "data.environment"
BUCKETS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Of a histogram that names none: those of the durations of migrations and tasks, in seconds."""

MEASURES = (
    Measure(
        name="tb_confiture_total",
        type="counter",
        topics=("migration.completed", "migration.failed"),
        labels={"environment": ENVIRONMENT, "status": OUTCOME},
        help="Migrations that ended",
    ),
    Measure(
        name="confiture_migration_duration_seconds",
        type="histogram",
        topics=("migration.completed",),
        value="data.duration_ms",
        scale=0.001,
        labels={"migration_name": "data.migration"},
        buckets=BUCKETS,
        help="Duration of applied migrations",
        unit="seconds",
    ),
    Measure(
        name="confiture_pending_migrations",
        type="gauge",
        topics=("migration.*",),
        value="data.pending",
        labels={"environment": ENVIRONMENT},
        help="Pending migrations, as the newest event said",
    ),
    Measure(
        name="event_bus_tasks_total",
        type="counter",
        topics=("task.completed", "task.failed"),
        labels={"environment": ENVIRONMENT, "status": OUTCOME},
        help="Tasks that ended",
    ),
    Measure(
        name="event_bus_task_duration_seconds",
        type="histogram",
        topics=("task.completed", "task.failed"),
        value="data.duration_ms",
        scale=0.001,
        labels={"environment": ENVIRONMENT, "status": OUTCOME},
        buckets=BUCKETS,
        help="Duration of tasks",
        unit="seconds",
    ),
    Measure(
        name="event_bus_vm_events_total",
        type="counter",
        topics=("vm.*",),
        labels={"event": "topic.2"},
        help="Events of virtual machines",
    ),
    Measure(
        name="event_bus_integration_degraded",
        type="gauge",
        topics=("integration.degraded", "integration.recovered"),
        value={"integration.degraded": 1, "integration.recovered": 0},
        labels={"integration": "data.integration"},
        help="Integrations that are left alone, as their service fails",
    ),
)
"""What is measured unless `defaults` is false. The first three have the names of Confiture's Integrations Guide."""

SERIES = "event_bus_measured_series"
MAX_SERIES = "event_bus_measured_series_max"
DROPPED = "event_bus_readings_dropped_total"
OWN = (SERIES, MAX_SERIES, DROPPED)
"""What the adapter says of itself, beside the measures."""

# prometheus.io, "Data model", "Metric names and labels". Colons are for recording rules and "should not be used when
# exposing metrics"; label names that begin with __ are for internal use. The UTF-8 names of Prometheus 3 are not used:
# every query would have to quote them.
_METRIC = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_TAKEN = {"histogram": {"le"}}
_ENDINGS = ("_total", "_bucket", "_sum", "_count")
"""What the format adds to names by itself: a metric that ends so is taken for a part of another."""


class PrometheusConfig(BaseModel):
    """What is shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measures: tuple[Measure, ...] = Field(
        default=(), max_length=200, description="More measures, or others in place of those built in by the same name"
    )
    defaults: bool = Field(
        default=True, description="Whether what is built in is measured: migrations, tasks, machines"
    )
    max_series: int = Field(
        default=10_000, ge=1, le=MAX_ROWS, description="Most series; readings that would need another one are dropped"
    )
    idle: timedelta = Field(
        default=timedelta(days=30),
        ge=timedelta(hours=1),
        description="A series without a reading for so long makes room for a new one when there are max_series",
    )

    @model_validator(mode="after")
    def _prometheus_takes_it(self) -> Self:
        faults = [f"{one.name} {fault}" for one in self.measures if (fault := _fault(one))]
        faults += _clashes(self.measures)
        if faults:
            raise ValueError("; ".join(faults))
        if not self.active:
            raise ValueError("measures nothing: set defaults to true, or give measures")
        return self

    @cached_property
    def active(self) -> tuple[Measure, ...]:
        """Every measure that counts, those built in first; each histogram with its buckets."""
        return tuple(map(_with_buckets, chosen(MEASURES if self.defaults else (), self.measures)))


def _with_buckets(measure: Measure) -> Measure:
    if measure.type != "histogram" or measure.buckets:
        return measure
    return measure.model_copy(update={"buckets": BUCKETS})


def _fault(measure: Measure) -> str:
    """Why Prometheus would not take it; empty where it does."""
    name = measure.name
    if not _METRIC.fullmatch(name):
        return "is no metric name: letters, digits and _, no digit first"
    if name in OWN:
        return "is what this integration says of itself: choose another name"
    if measure.type == "counter" and not name.endswith("_total"):
        return f"is a counter: call it {name}_total, as Prometheus' naming rules have it"
    if measure.type != "counter" and name.endswith(_ENDINGS):
        return f"is a {measure.type} and ends like a part of another metric: drop the last word"
    for label in measure.labels:
        if not _LABEL.fullmatch(label) or label in _TAKEN.get(measure.type, ()):
            return (
                f"has the label {label!r}: letters, digits and _, no digit first, not __ first, not le in a histogram"
            )
    if measure.buckets and measure.buckets[0] < 0:
        # prometheus.io, "Histograms and summaries": with values below 0 "the sum of observations can go down".
        return "has a bucket below 0: its sum could go down, which is a restart to Prometheus"
    return ""


def _clashes(measures: tuple[Measure, ...]) -> list[str]:
    """Measures may share a name, each with labels of its own such as `=ast`; but they are one metric then."""
    shape: dict[str, tuple[object, ...]] = {}
    faults = []
    for one in measures:
        mine = (one.type, set(one.labels), one.buckets)
        if shape.setdefault(one.name, mine) != mine:
            faults.append(f"{one.name} stands there twice, with another type, other labels or other buckets")
    return faults
