"""From readings to rows that are counted in Redis, and from these rows to the text that Prometheus scrapes. Pure.

A row is one series of a measure: its name and label values, as a JSON list. A counter's row has the part `value`, a
gauge's too, with the time of its event. A histogram's has `sum` and, by its upper bound, how many fell into each bucket
alone; they are added up for the text. So buckets may be changed: what was counted under another bound goes to the next
higher one.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate, product

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from eventbus.tally import Change, Tally
from integrations.measure import Measure, Reading
from integrations.prometheus.config import DROPPED, MAX_SERIES, SERIES

VALUE = "value"
SUM = "sum"
OF_ALL = ""
"""The row in which the store counts what it refused."""


def changes(readings: Iterable[Reading], at: datetime) -> list[Change]:
    """What the readings of one event change. `at`: the event's time."""
    return [_change(reading, at) for reading in readings]


def _change(reading: Reading, at: datetime) -> Change:
    row = json.dumps([reading.name, *_sorted(reading.labels)], ensure_ascii=False, separators=(",", ":"))
    if reading.type == "gauge":
        return Change(row, {VALUE: reading.value}, at)
    if reading.type == "counter":
        return Change(row, {VALUE: reading.value})
    buckets = (*reading.measure.buckets, math.inf)
    bound = buckets[bisect_left(buckets, reading.value)]  # "le": less or equal
    return Change(row, {SUM: reading.value, _number(bound): 1})


def _sorted(labels: Mapping[str, str]) -> list[str]:
    return [part for name in sorted(labels) for part in (name, labels[name])]


def series(tally: Tally) -> dict[str, dict[tuple[str, ...], Mapping[str, float]]]:
    """By metric: label names and values in turns, and what stands there."""
    found: dict[str, dict[tuple[str, ...], Mapping[str, float]]] = {}
    for row, parts in tally.items():
        if row != OF_ALL:
            name, *labels = json.loads(row)
            found.setdefault(name, {})[tuple(labels)] = parts
    return found


def count(tally: Tally) -> int:
    """How many series there are."""
    return len(tally) - (OF_ALL in tally)


def dropped(tally: Tally) -> int:
    """How many readings found no room."""
    return int(tally.get(OF_ALL, {}).get("refused", 0))


def exposition(tally: Tally, measures: Sequence[Measure], max_series: int) -> bytes:
    """The text format, version 0.0.4. Of metrics that nobody measures any more, and of series from before a metric's
    labels were changed, nothing is shown."""
    registry = CollectorRegistry()
    registry.register(_Shown([*_families(tally, measures), *_own(tally, max_series)]))
    return generate_latest(registry)


class _Shown(Collector):
    """What `generate_latest` asks."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _families(tally: Tally, measures: Sequence[Measure]) -> Iterator[Metric]:
    known, first = series(tally), {one.name: one for one in reversed(measures)}
    for measure in reversed(first.values()):  # each metric once, in their order
        names = sorted(measure.labels)
        rows = {row[1::2]: parts for row, parts in known.get(measure.name, {}).items() if [*row[::2]] == names}
        yield _family(measure, names, rows)


def _family(measure: Measure, names: Sequence[str], rows: Mapping[tuple[str, ...], Mapping[str, float]]) -> Metric:
    text = measure.help or f"Of {', '.join(measure.topics)}"
    if measure.type == "histogram":
        histogram = HistogramMetricFamily(measure.name, text, labels=names)
        bounds = (*measure.buckets, math.inf)
        names_of_bounds = [_number(bound) for bound in bounds]
        for values, parts in sorted(rows.items()):
            buckets = [*zip(names_of_bounds, _up_to(bounds, parts), strict=True)]
            histogram.add_metric(values, buckets=buckets, sum_value=parts.get(SUM, 0.0))
        return histogram
    numbers = {values: parts[VALUE] for values, parts in rows.items() if VALUE in parts}
    if measure.type == "gauge":
        gauge = GaugeMetricFamily(measure.name, text, labels=names)
        for values, number in sorted(numbers.items()):
            gauge.add_metric(values, number)
        return gauge
    counter = CounterMetricFamily(measure.name, text, labels=names)
    for values, number in sorted((dict.fromkeys(_expected(measure, names, numbers), 0.0) | numbers).items()):
        counter.add_metric(values, number)
    return counter


def _expected(measure: Measure, names: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """The series beside those that are counted: with the other texts of the labels that are chosen by topic.

    prometheus.io, "Instrumentation", "Avoid missing metrics": "export a default value such as 0 for any time series you
    know may exist in advance"; rate() does not see how a series came to be, so a first failure would count for nothing.
    """
    texts = [[*dict.fromkeys(s.values())] if isinstance(s := measure.labels[name], dict) else [] for name in names]
    for row in rows:
        yield from product(*(other or [own] for other, own in zip(texts, row, strict=True)))


def _up_to(bounds: Sequence[float], parts: Mapping[str, float]) -> Iterator[float]:
    """How many are not above each bound, up to infinity, which is all of them."""
    counted = [0.0] * len(bounds)
    for bound, number in parts.items():
        if bound not in (SUM, VALUE, "at"):
            counted[bisect_left(bounds, float(bound))] += number
    return accumulate(counted)


def _own(tally: Tally, max_series: int) -> Iterator[Metric]:
    yield GaugeMetricFamily(SERIES, "Series of measures that are kept", value=count(tally))
    yield GaugeMetricFamily(MAX_SERIES, "Series of measures that may be kept", value=max_series)
    yield CounterMetricFamily(DROPPED, "Readings that found no room among the series", value=dropped(tally))


def written(reading: Reading) -> str:
    """A reading for people, as Prometheus writes series."""
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in reading.labels.items())
    sign = {"counter": "+", "gauge": "= ", "histogram": "<- "}[reading.type]
    return f"{reading.name}{{{labels}}} {sign}{_number(reading.value)}"


def _number(value: float) -> str:
    """As Go writes it, which is how Prometheus names buckets: 1.0, 0.25, 1e+06, +Inf."""
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
