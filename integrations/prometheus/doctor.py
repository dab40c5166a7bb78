"""What `eventbus integrations doctor` says of the numbers: how much room is left, and which label takes it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from eventbus.tally import Tally
from integrations.base import Finding
from integrations.prometheus import render
from integrations.prometheus.config import PrometheusConfig

FULL = 0.8
"""Of max_series: worth a word."""
MANY = 100
"""Values of one label. prometheus.io, "Instrumentation", "Do not overuse labels": "If you have a metric that has a
cardinality over 100 or the potential to grow that large, investigate alternate solutions"."""


def examine(tally: Tally, config: PrometheusConfig) -> list[Finding]:
    """All findings."""
    return [_room(tally, config), *_lost(tally), *_labels(tally, config), *_orphans(tally, config)]


def _room(tally: Tally, config: PrometheusConfig) -> Finding:
    used = render.count(tally)
    what = f"{used:,} of {config.max_series:,} in use"
    if used < config.max_series * FULL:
        return Finding("series", "ok", what)
    fix = "drop the label with the most values from its measure, or raise max_series"
    return Finding("series", "warn" if used < config.max_series else "fail", what, fix)


def _lost(tally: Tally) -> Iterator[Finding]:
    if lost := render.dropped(tally):
        what = f"{lost:,} were dropped so far, for want of room"
        yield Finding("readings", "warn", what, "see which label takes it; then raise max_series")


def _labels(tally: Tally, config: PrometheusConfig) -> Iterator[Finding]:
    found = False
    for name, rows in sorted(render.series(tally).items()):
        if name not in {one.name for one in config.active}:
            continue
        values: dict[str, set[str]] = {}
        for row in rows:
            for label, value in zip(row[::2], row[1::2], strict=True):
                values.setdefault(label, set()).add(value)
        for label, seen in values.items():
            if len(seen) > MANY:
                found = True
                fix = f"give a measure {name} without {label}, or with one that has few values"
                yield Finding("labels", "warn", f"{label} of {name} has {len(seen):,} values", fix)
    if not found:
        yield Finding("labels", "ok", f"none has more than {MANY} values")


def _orphans(tally: Tally, config: PrometheusConfig) -> Iterator[Finding]:
    shown = {one.name for one in config.active}
    left = sum(len(rows) for name, rows in render.series(tally).items() if name not in shown)
    if left:
        what = f"{left:,} are of metrics that nobody measures any more; they are not shown"
        yield Finding("series", "ok", f"{what}, and make room when it is needed and they were idle long enough")
