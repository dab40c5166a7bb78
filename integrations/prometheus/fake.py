"""A stand-in of Prometheus: it scrapes the adapter's text by the rules of the format, and refuses what breaks them.

The rules are those of prometheus.io, "Exposition formats", "Text format details"; each is quoted where it is enforced.
Prometheus asks and is never told, so nothing arrives here by itself: `scrape` after each thing that may have counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import BaseRoute

from integrations.base import Exposes
from integrations.testing.fake import FakeService

Labels = frozenset[tuple[str, str]]


class FakePrometheus(FakeService):
    """`text` is what was scraped last, `samples` what it says."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.text = ""
        self.samples: dict[tuple[str, Labels], float] = {}

    def routes(self) -> Sequence[BaseRoute]:
        return []

    def settings(self) -> dict[str, Any]:
        return {"max_series": 10_000}

    def effects(self) -> list[str]:
        """Each task that was counted."""
        counted = {labels: value for (name, labels), value in self.samples.items() if name == "event_bus_tasks_total"}
        return [f"{dict(labels)} {number + 1}" for labels, value in counted.items() for number in range(int(value))]

    async def scrape(self, adapter: Exposes) -> None:
        """Ask it what it has counted. What was counted before may not have become less."""
        text = (await adapter.exposition()).decode()
        samples = read(text)
        if sum(samples.values()) >= sum(self.samples.values()):  # two scrapes may overtake each other
            self.text, self.samples = text, samples

    def value(self, name: str, **labels: str) -> float | None:
        """Of one series; None when it is not there."""
        return self.samples.get((name, frozenset(labels.items())))


def read(text: str) -> dict[tuple[str, Labels], float]:
    """Every sample. Raises ValueError naming the rule that the text breaks."""
    if not text.endswith("\n"):
        raise ValueError("'The last line must end with a line feed character'")
    types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    if len(types) != len(set(types)):
        raise ValueError("'Only one TYPE line may exist for the same metric name'")
    samples: dict[tuple[str, Labels], float] = {}
    for family in text_string_to_metric_families(text):
        if family.type == "unknown":
            raise ValueError(f"{family.name} has no TYPE line before its first sample")
        for sample in family.samples:
            series = (sample.name, frozenset(sample.labels.items()))
            if series in samples:
                raise ValueError(f"'Each line must have a unique combination of a metric name and labels': {series}")
            samples[series] = sample.value
        if family.type == "histogram":
            _check_histogram(family, samples)
        if family.type == "counter" and any(sample.value < 0 for sample in family.samples):
            raise ValueError(f"the counter {family.name} is below 0")
    return samples


def _check_histogram(family: Metric, samples: Mapping[tuple[str, Labels], float]) -> None:
    buckets: dict[Labels, list[tuple[float, float]]] = {}
    for sample in family.samples:
        if sample.name == f"{family.name}_bucket":
            labels = frozenset((name, value) for name, value in sample.labels.items() if name != "le")
            buckets.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
    for labels, found in buckets.items():
        if found != sorted(found):
            raise ValueError("'The buckets of a histogram must appear in increasing numerical order', and never fall")
        last, count = found[-1], samples.get((f"{family.name}_count", labels))
        if last != (math.inf, count):
            raise ValueError(
                '\'A histogram must have a bucket with {le="+Inf"}. Its value must be identical to the value of '
                f"x_count': {last}, {count}"
            )
