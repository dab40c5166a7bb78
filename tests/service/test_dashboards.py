"""The dashboards and the alert rules ask for what is really emitted: names and labels, held against a real text."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from eventbus import EventBus
from eventbus.catalog import catalog
from eventbus.redis.shard import Backlog
from eventbus.topics import IntegrationDegraded, MigrationCompleted, TaskFailed, VmCreated
from integrations.base import Delivery
from integrations.measure import Measure
from integrations.prometheus import Prometheus
from integrations.prometheus.config import PrometheusConfig
from integrations.prometheus.fake import read
from integrations.testing.context import make_context
from registry.metrics import Metrics
from service import dashboards

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
BOARDS = sorted((CONFIG / "grafana").glob("*.json"))
RULES = yaml.safe_load((CONFIG / "prometheus" / "alerts.yml").read_text())
SCRAPES = yaml.safe_load((CONFIG / "prometheus" / "prometheus.yml").read_text())

OF_PROMETHEUS = {"up": {"job", "instance"}}
OF_TARGETS = {"job", "instance"}
FUNCTIONS = {"sum", "max", "rate", "increase", "histogram_quantile", "absent"}
WORDS = FUNCTIONS | {"by", "or", "and"}

Emitted = Mapping[str, set[str]]


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> Emitted:
    """Every name that can be scraped, with its labels: of the programs, and of what events measure."""

    async def emitted() -> Emitted:
        return {**await _of_programs(tmp_path_factory.mktemp("spool")), **await _of_events(), **OF_PROMETHEUS}

    return asyncio.run(emitted())


async def _of_programs(folder: Path) -> Emitted:
    metrics = Metrics()
    async with EventBus.open("memory://", spool=folder) as bus:
        assert bus.spools is not None
        metrics.watch_spool(bus.spools)
        for status in ("stored", "duplicate"):
            metrics.published("vm.created", status)
        metrics.handled("slack", "vm.created", "done", 0.1)
        metrics.fenced("slack")
        metrics.gap("deleted", 1)
        await bus.declare("slack", ("vm.*",))
        backlog = await bus.backlog("slack")
        assert isinstance(backlog, Backlog)
        metrics.backlog("slack", backlog)
        with metrics.request("slack", "handle_event"):
            pass
        return _labels(metrics.exposition())


async def _of_events() -> Emitted:
    prometheus = Prometheus()
    await prometheus.initialize(make_context(Prometheus, {}))
    events = (
        MigrationCompleted(migration="a", environment="staging", duration_ms=1, pending=0),
        TaskFailed(task_id="1", error="x", duration_ms=1),
        VmCreated(vm_id="1"),
        IntegrationDegraded(integration="slack", detail="503"),
    )
    for number, event in enumerate(events):
        await prometheus.handle_event(catalog.event(event), Delivery(str(number)))
    text = await prometheus.exposition()
    await prometheus.context.http.close()
    return _labels(text)


def _labels(text: bytes) -> Emitted:
    found: dict[str, set[str]] = {}
    for name, labels in read(text.decode()):
        found.setdefault(name, set()).update(label for label, _ in labels)
    return found


def unknown(expression: str, emitted: Emitted) -> Iterator[str]:
    """What an expression asks for that nobody emits. Knows the part of PromQL that is used here."""
    text = re.sub(r'"[^"]*"', '""', expression)
    text = re.sub(r"\[[^\]]*\]", "", text)
    names = {word for word in re.findall(r"(?<![\w{,])[a-z_]\w*(?!\w*\s*(?:=|!))", text) if word not in WORDS}
    names -= {label for group in re.findall(r"by \(([^)]*)\)", text) for label in re.split(r",\s*", group)}
    yield from sorted(name for name in names if name not in emitted and not re.fullmatch(r"\d\S*", name))
    known = OF_TARGETS | {label for name in names for label in emitted.get(name, ())}
    asked = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", text))
    asked |= {label for group in re.findall(r"by \(([^)]*)\)", text) for label in re.split(r",\s*", group)}
    yield from sorted(asked - known)


def queries(board: Mapping[str, Any]) -> list[str]:
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


# -- dashboards --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_query_of_a_dashboard_asks_for_what_is_emitted(path: Path, emitted: Emitted) -> None:
    board = json.loads(path.read_text())
    assert len(queries(board)) > 10
    assert {query: [*unknown(query, emitted)] for query in queries(board) if [*unknown(query, emitted)]} == {}


def test_both_dashboards_are_there() -> None:
    assert [path.stem for path in BOARDS] == ["bus", "events"]


def test_every_measure_and_every_metric_of_the_programs_is_on_a_dashboard(emitted: Emitted) -> None:
    shown = " ".join(query for path in BOARDS for query in queries(json.loads(path.read_text())))
    missing = {re.sub(r"_(sum|count)$", "_bucket", name) for name in emitted}
    assert {name for name in missing if name not in shown} == set()


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_grafana_can_place_every_panel_and_bind_it_to_a_data_source(path: Path) -> None:
    board = json.loads(path.read_text())
    assert board["uid"] == f"eventbus-{path.stem}"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, f"{panel['title']} lies over another"
        assert max(x for x, _ in cells) < 24, f"{panel['title']} is outside"
        taken |= cells
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["refId"] for target in panel["targets"]] == ["A", "B", "C"][: len(panel["targets"])]
    named = [one["name"] for one in board["templating"]["list"]]
    assert named[0] == "datasource"
    assert ("environment" in named) == ("$environment" in path.read_text())


def test_the_three_panels_of_the_integrations_guide_are_there() -> None:
    board = dashboards.events(PrometheusConfig().active)
    by_title = {panel["title"]: panel["targets"][0]["expr"] for panel in board["panels"]}
    rate = by_title["Migrations that ended: success rate"]
    assert 'status="success"' in rate
    assert rate.count("tb_confiture_total") == 2
    assert by_title["Duration of applied migrations: p95"].startswith("histogram_quantile(0.95, ")
    assert "confiture_pending_migrations" in by_title["Pending migrations, as the newest event said"]


def test_what_several_processes_show_alike_is_taken_once() -> None:
    """Otherwise two scraped workers would double every number."""
    for query in queries(dashboards.events(PrometheusConfig().active)):
        for metric in re.findall(r"(?:tb_|confiture_|event_bus_)\w+", query):
            before = query[: query.index(metric)]
            assert re.search(r"max(?: by \([^)]*\))? ?\((?:(?:rate|increase)\()?$", before), query


def test_measures_of_ones_own_have_panels_too(emitted: Emitted) -> None:
    own = Measure(name="orders_total", type="counter", topics=("shop.*",), labels={"country": "data.country"})
    board = dashboards.events([own])
    assert "max by (country) (increase(orders_total[1h]))" in queries(board)
    assert [one["name"] for one in board["templating"]["list"]] == ["datasource"]


# -- alerts and scrapes ------------------------------------------------------------------------------------------------


def test_every_alert_rule_asks_for_what_is_emitted(emitted: Emitted) -> None:
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]
    assert {
        rule["alert"]: [*unknown(rule["expr"], emitted)] for rule in rules if [*unknown(rule["expr"], emitted)]
    } == {}
    for rule in rules:
        assert rule["labels"]["severity"] in ("page", "day"), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]


def test_every_alarm_of_the_operations_page_is_a_rule() -> None:
    page = (ROOT / "docs" / "operations.md").read_text().split("| alarm on |")[1].split("\n## ")[0]
    rules = " ".join(rule["expr"] for group in RULES["groups"] for rule in group["rules"])
    told = [code for line in page.splitlines()[2:] if line for code in re.findall(r"`([^`]+)`", line.split(" | ")[0])]
    alarms = [code for code in told if re.search(r"[<>=]", code) and "maxmemory" not in code]
    assert len(alarms) > 7
    assert [alarm for alarm in alarms if alarm not in rules] == []


def test_the_jobs_of_the_scrape_example_are_those_that_the_rules_and_dashboards_name() -> None:
    jobs = {scrape["job_name"] for scrape in SCRAPES["scrape_configs"]}
    assert jobs == {"eventbus-worker", "eventbus-gateway", "eventbus-measures"}
    asked = set(re.findall(r'job="([^"]+)"', (CONFIG / "prometheus" / "alerts.yml").read_text()))
    assert asked <= jobs
    assert SCRAPES["rule_files"] == ["alerts.yml"]


def test_what_is_not_emitted_would_be_found(emitted: Emitted) -> None:
    """The check of this module can fail."""
    assert [*unknown('sum(rate(event_bus_nothing_total{topic="x"}[5m]))', emitted)] == [
        "event_bus_nothing_total",
        "topic",
    ]
    assert [*unknown('max by (colour) (event_bus_backlog{stat="dead"}) > 0', emitted)] == ["colour", "stat"]
    assert [*unknown('max by (state) (event_bus_backlog{state=~"a|b"}) > 200e6', emitted)] == []
