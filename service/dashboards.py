"""Grafana's dashboards, made of what is counted: one of what events measure, one of the bus. Pure.

`service.generate` writes them to config/grafana/. Each process that shows what events measure shows the same numbers
(`integrations.prometheus`), so their queries take one of equal series, however many places are scraped. Of the bus each
process tells its own share, which is added up; but how a group stands every worker tells alike.

The form is that of Grafana's dashboard JSON, schema version 39 (Grafana 11); newer ones read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from integrations.measure import Measure
from integrations.prometheus.config import DROPPED, MAX_SERIES, SERIES

SCHEMA = 39
WIDTH = 24
HEIGHT = 8
WINDOW = "1h"
"""Of rates that are drawn. Migrations and tasks come seldom: over a few minutes there would mostly be none."""

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_LATENCIES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
_ENVIRONMENT = "environment"
_CHOSEN = f'{_ENVIRONMENT}=~"$environment"'

Query = tuple[str, str]
"""An expression, and how its series are named."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    unit  as Grafana names it: s, short, percentunit, bytes, ops
    red   from this value on it is shown in red
    """

    title: str
    queries: Sequence[Query]
    about: str = ""
    unit: str = "short"
    kind: str = "timeseries"
    red: float | None = None


# -- what events measure -----------------------------------------------------------------------------------------------


def events(measures: Iterable[Measure]) -> dict[str, Any]:
    """The dashboard of these measures."""
    measures = list(measures)
    panels = [panel for measure in measures for panel in _of_measure(measure)]
    own = Panel("Series", [(f"max({SERIES})", "kept"), (f"max({MAX_SERIES})", "most")], "What may be kept, and what is")
    lost = Panel("Readings dropped", [(f"max(increase({DROPPED}[{WINDOW}]))", "dropped")], "For want of room", red=1)
    with_environment = [measure.name for measure in measures if _ENVIRONMENT in measure.labels]
    about = "What events measure: migrations, tasks, machines. Made from the measures by `make generate`."
    return _dashboard("Events", about, [*panels, own, lost], environments_of=with_environment)


def _of_measure(measure: Measure) -> Iterator[Panel]:
    if measure.type == "gauge":
        yield Panel(_title(measure), [(_one(measure, measure.name + _where(measure)), _legend(measure))])
    elif measure.type == "histogram":
        yield from _durations(measure)
    else:
        yield from _counts(measure)


def _counts(measure: Measure) -> Iterator[Panel]:
    name, outcomes = measure.name, _outcomes(measure)
    for label, good in outcomes:
        won, all_of_it = (
            f"sum({_one(measure, f'increase({name}{_where(measure, which)}[$__range])')})"
            for which in (f'{label}="{good}"', "")
        )
        yield Panel(
            f"{_title(measure)}: success rate", [(f"{won} / {all_of_it}", good)], unit="percentunit", kind="stat"
        )
    rate = _one(measure, f"increase({name}{_where(measure)}[{WINDOW}])")
    yield Panel(f"{_title(measure)}, in an hour", [(rate, _legend(measure))])


def _durations(measure: Measure) -> Iterator[Panel]:
    def quantile(share: float, window: str) -> str:
        buckets = _one(measure, f"rate({measure.name}_bucket{_where(measure)}[{window}])", "le")
        return f"histogram_quantile({share}, sum by (le) ({buckets}))"

    unit = "s" if measure.name.endswith("_seconds") else "short"
    yield Panel(f"{_title(measure)}: p95", [(quantile(0.95, "$__range"), "p95")], unit=unit, kind="stat")
    drawn = [(quantile(share, WINDOW), word) for share, word in _LATENCIES]
    yield Panel(f"{_title(measure)}, over an hour", drawn, unit=unit)


def _outcomes(measure: Measure) -> list[tuple[str, str]]:
    """The label that tells success from failure, and what it says of success."""
    chosen = [(label, set(source.values())) for label, source in measure.labels.items() if isinstance(source, dict)]
    return [(label, "success") for label, texts in chosen if "success" in texts]


def _one(measure: Measure, expression: str, *more: str) -> str:
    """Of the equal series that several processes show, one."""
    return (
        f"max by ({', '.join([*measure.labels, *more])}) ({expression})"
        if measure.labels or more
        else f"max({expression})"
    )


def _where(measure: Measure, *more: str) -> str:
    wanted = [one for one in (_CHOSEN if _ENVIRONMENT in measure.labels else "", *more) if one]
    return f"{{{','.join(wanted)}}}" if wanted else ""


def _legend(measure: Measure) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in measure.labels) or measure.name


def _title(measure: Measure) -> str:
    return measure.help or measure.name


# -- the bus -----------------------------------------------------------------------------------------------------------


def bus() -> dict[str, Any]:
    """The dashboard of the bus and its integrations: what `registry.metrics` counts."""
    return _dashboard("Bus", "The event bus and its integrations.", _BUS, environments_of=())


def _p95(name: str) -> Query:
    return (
        f"histogram_quantile(0.95, sum by (integration, le) (rate({name}_bucket[$__rate_interval])))",
        "{{integration}}",
    )


def _rate(name: str, *labels: str, where: str = "") -> Query:
    legend = " ".join(f"{{{{{label}}}}}" for label in labels)
    return f"sum by ({', '.join(labels)}) (rate({name}{where}[$__rate_interval]))", legend


def _standing(*states: str) -> Query:
    wanted = f'state=~"{"|".join(states)}"'
    return f"max by (integration, state) (event_bus_backlog{{{wanted}}})", "{{integration}} {{state}}"


_BUS = (
    Panel(
        "Processes that answer",
        [('sum by (job) (up{job=~"eventbus-.*"})', "{{job}}")],
        "By the jobs of config/prometheus/prometheus.yml",
        kind="stat",
    ),
    Panel(
        "Dead letters",
        [('max by (integration) (event_bus_backlog{state="dead"})', "{{integration}}")],
        "Deliveries that were given up and wait for a person: `eventbus dead list`",
        kind="stat",
        red=1,
    ),
    Panel("Published", [_rate("event_bus_messages_published_total", "topic")], "Events accepted a second", "ops"),
    Panel("Consumed", [_rate("event_bus_messages_consumed_total", "integration")], "Deliveries done a second", "ops"),
    Panel(
        "Backlog",
        [_standing("unread", "running", "waiting", "ready")],
        "Not handled yet. It may rise with what is published, and has to fall again",
    ),
    Panel("Waiting for another attempt", [_standing("due")], "Rises when a service fails"),
    Panel("Attempts by outcome", [_rate("event_bus_attempts_total", "integration", "outcome")], unit="ops"),
    Panel("Seconds of an attempt: p95", [_p95("event_bus_attempt_seconds")], unit="s"),
    Panel("Requests to services", [_rate("integration_requests_total", "integration", "method")], unit="ops"),
    Panel("Seconds of a request: p95", [_p95("integration_request_seconds")], unit="s"),
    Panel(
        "Events spooled",
        [("sum by (instance) (event_bus_spool_events)", "{{instance}}")],
        "On the disks of programs until Redis takes them; only those that have a spool",
    ),
    Panel(
        "Age of the oldest spooled event",
        [("max by (instance) (event_bus_spool_oldest_seconds)", "{{instance}}")],
        unit="s",
        red=600,
    ),
    Panel("Bytes spooled", [("sum by (instance) (event_bus_spool_bytes)", "{{instance}}")], unit="bytes"),
    Panel(
        "Gaps",
        [("max by (kind) (increase(event_bus_gaps_total[$__range]))", "{{kind}}")],
        "Sums of the books that do not add up: `eventbus audit`",
        kind="stat",
        red=1,
    ),
    Panel("Repeats dropped", [_rate("event_bus_messages_duplicate_total", "topic")], "By idempotency key", "ops"),
    Panel("Results that came too late", [_rate("event_bus_fenced_total", "integration")], "Workers pause", "ops"),
)


# -- Grafana's form ----------------------------------------------------------------------------------------------------


def _dashboard(title: str, about: str, panels: Iterable[Panel], *, environments_of: Sequence[str]) -> dict[str, Any]:
    return {
        "uid": f"eventbus-{title.lower()}",
        "title": f"eventbus: {title}",
        "description": about,
        "tags": ["eventbus"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "timezone": "",
        "templating": {"list": [_datasource(), *([_environments(environments_of)] if environments_of else [])]},
        "annotations": {"list": []},
        "panels": [*_placed(panels)],
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}


def _environments(names: Sequence[str]) -> dict[str, Any]:
    query = f'label_values({{__name__=~"{"|".join(names)}"}}, {_ENVIRONMENT})'
    return {
        "name": _ENVIRONMENT,
        "label": "Environment",
        "type": "query",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "environments"},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _placed(panels: Iterable[Panel]) -> Iterator[dict[str, Any]]:
    """Single numbers first; from left to right and then down."""
    x, y = 0, 0
    for number, panel in enumerate(sorted(panels, key=lambda panel: panel.kind != "stat"), 1):
        width = WIDTH // 4 if panel.kind == "stat" else WIDTH // 2
        if x + width > WIDTH:
            x, y = 0, y + HEIGHT
        yield _panel(panel, number) | {"gridPos": {"x": x, "y": y, "w": width, "h": HEIGHT}}
        x += width


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red is not None:
        steps.append({"color": "red", "value": panel.red})
    options: dict[str, Any] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    if panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}
    return {
        "id": number,
        "title": panel.title,
        "description": panel.about,
        "type": panel.kind,
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
            for n, (expression, legend) in enumerate(panel.queries)
        ],
    }
