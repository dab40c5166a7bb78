"""`eventbus routes`: what is configured, what would become of one event, and what another file would change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from integrations.base import Subscribes
from registry.discovery import OURS, discover
from tests.service.cli.conftest import Desk
from tests.service.cli.terminal import eventbus

FILE = """
events: {url: redis://127.0.0.1:1/0}
integrations:
  log: {include_data: true}
  quiet: {adapter: log, topics: [vm.*]}
  "off": {adapter: log, enabled: false}
routes:
  production:
    topics: [task.failed]
    when: data.environment == "production"
    to: log
    title: "{{ data.name }} failed"
    text: "{{ data.error }}"
    fields: {Version: "{{ data.parameters }}"}
    dedup_key: "{{ data.name }}"
    stop: true
  tried:
    topics: [task.failed]
    to: log
    text: tried
    dry_run: true
  nights:
    topics: [task.*]
    to: quiet
    mute: [nights]
  nowhere:
    topics: [task.*]
    to: "off"
time_intervals:
  nights: [{times: [{start_time: "22:00", end_time: "24:00"}]}]
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    return written(tmp_path / "now.yaml", FILE.replace('    fields: {Version: "{{ data.parameters }}"}\n', ""))


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def tried(file: str, *arguments: str) -> dict[str | None, dict[str, Any]]:
    """What became of each route; the integrations that act by themselves by their names."""
    done = eventbus("routes", "test", *arguments, "--json", "--config", file)
    assert done.stdout, done.stderr
    return {one["route"] or one["to"]: one for one in json.loads(done.stdout)["routes"]}


PRODUCTION = '{"task_id": "1", "name": "nightly", "environment": "production", "error": "disk full"}'
STAGING = PRODUCTION.replace("production", "staging")


def test_routes_are_listed_in_their_order(file: str) -> None:
    lines = eventbus("routes", "list", "--config", file).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ROUTE", "production", "tried", "nights", "nowhere"]
    assert lines[1].split("  ")[-1].strip() == "stops"
    assert lines[3].split("  ")[-1].strip() == "mute: nights"
    as_json = json.loads(eventbus("routes", "list", "--json", "--config", file).stdout)
    assert as_json[0]["when"] == 'data.environment == "production"'
    assert as_json[0]["title"] == "{{ data.name }} failed"


def test_without_routes_it_says_what_holds(tmp_path: Path) -> None:
    assert "in its own layout" in eventbus("routes", "list", "--config", written(tmp_path / "x.yaml", "")).stdout


def test_an_event_is_tried_without_redis_and_nothing_leaves(file: str) -> None:
    """The address of the file leads nowhere; a command that asked it would end with 5."""
    found = tried(file, "task.failed", PRODUCTION)
    assert found["production"]["taken"]
    assert found["production"]["what"] == {"title": "nightly failed", "message": "disk full"}
    assert found["production"]["thread"] == "nightly"
    assert found["tried"]["reason"] == "stopped by route production above"


def test_each_route_that_is_not_taken_says_why(file: str) -> None:
    found = tried(file, "task.failed", STAGING, "--at", "2026-01-12T23:00Z")
    why = "when: data.environment == 'production' was false: data.environment = 'staging'"
    assert found["production"]["reason"] == why
    assert (found["tried"]["taken"], found["tried"]["dry_run"]) == (True, True)
    assert found["nights"]["reason"] == "muted by window nights until 2026-01-13T00:00Z"
    assert found["nowhere"]["reason"] == "integration off is disabled"


def test_what_integrations_do_by_themselves_is_shown_too(file: str) -> None:
    found = tried(file, "vm.created")
    assert found["quiet"]["taken"]
    assert found["log"]["taken"]
    assert "log" not in tried(file, "task.failed"), "a route decides about this topic there"


SECRET = "0123456789abcdef0123456789abcdef"
COUNTER = "measures: [{name: paid_total, type: counter, topics: [shop.order.paid]}]"
CHOOSING = {
    "datadog": f"{{{COUNTER}, events: [shop.order.lost]}}",
    "prometheus": f"{{{COUNTER}}}",
    "cloudwatch": f"{{region: eu-west-1, namespace: Shop, {COUNTER}}}",
    "webhook": f"{{endpoints: [{{name: shop, url: 'https://example.com', topics: [shop.order.*], secret: {SECRET}}}]}}",
}


@pytest.mark.parametrize(
    ("name", "topic"), [*((name, "shop.order.paid") for name in CHOOSING), ("datadog", "shop.order.lost")]
)
def test_what_the_settings_of_an_integration_ask_for_is_shown_too(tmp_path: Path, name: str, topic: str) -> None:
    file = written(tmp_path / "x.yaml", f"integrations: {{{name}: {CHOOSING[name]}}}\n")
    one = tried(file, topic)[name]
    assert (one["taken"], one["fault"], len(one["requests"])) == (True, "", 1)
    narrowed = written(tmp_path / "y.yaml", f"integrations: {{{name}: {CHOOSING[name][:-1]}, topics: [vm.*]}}}}\n")
    assert tried(narrowed, topic) == {}, "its own topics leave it out"


def test_every_adapter_that_chooses_by_its_settings_is_among_these() -> None:
    ours = [one.integration for one in discover().entries if one.integration and one.distribution == OURS]
    assert {one.manifest.name for one in ours if issubclass(one, Subscribes)} == CHOOSING.keys()


def test_people_get_a_table_and_what_would_leave(file: str) -> None:
    shown = eventbus("routes", "test", "task.failed", PRODUCTION, "--config", file)
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert lines[0].split("  ")[0] == "ROUTE"
    assert "route production to log, thread nightly:" in lines
    assert any("disk full" in line for line in lines)


GROUPED = """
integrations: {log: {}}
routes:
  failures:
    topics: [task.failed]
    to: log
    text: "{{ data.error }}"
    group: {by: [data.environment, data.name], wait: 60}
"""


def test_a_route_that_groups_says_so_and_shows_the_message_of_one(tmp_path: Path) -> None:
    file = written(tmp_path / "x.yaml", GROUPED)
    (_, row) = eventbus("routes", "list", "--config", file).stdout.splitlines()
    assert row.endswith("groups by data.environment data.name")
    found = tried(file, "task.failed", PRODUCTION)["failures"]
    assert found["group"] == {"environment": "production", "name": "nightly"}
    assert found["what"] == {"message": "disk full"}
    shown = eventbus("routes", "test", "task.failed", PRODUCTION, "--config", file).stdout
    assert "grouped environment=production, name=nightly" in shown
    assert "told of with its group after 60 s; this is how it looks alone" in shown


def test_what_can_t_be_grouped_is_a_fault_of_the_file(tmp_path: Path) -> None:
    without = GROUPED.replace('    text: "{{ data.error }}"\n', "")
    checked = eventbus("config", "check", written(tmp_path / "x.yaml", without))
    assert (checked.exit_code, "group belongs to a notification: add text" in checked.stderr) == (2, True)
    wrong = GROUPED.replace("wait: 60", "wait: -1")
    assert eventbus("config", "check", written(tmp_path / "y.yaml", wrong)).exit_code == 2


def test_what_does_not_fit_its_topic_is_refused(file: str) -> None:
    refused = eventbus("routes", "test", "task.failed", "{}", "--config", file)
    assert (refused.exit_code, "task_id: field required" in refused.stderr) == (2, True)
    assert eventbus("routes", "test", "task.failed", "[1]", "--config", file).exit_code == 2


def test_a_route_that_can_t_be_rendered_is_exit_code_1(tmp_path: Path) -> None:
    text = "routes:\n  r: {topics: [custom.x], to: github, artifact: issue, content: {title: '{{ data.title }}'}}\n"
    text += "integrations: {github: {token: ghp_not_a_secret_but_long_enough, webhook_secret: 0123456789abcdef}}\n"
    done = eventbus("routes", "test", "custom.x", "{}", "--config", written(tmp_path / "x.yaml", text))
    assert (done.exit_code, "route r: content." in done.stdout) == (1, True)


# -- faults of the file ----------------------------------------------------------------------------------------------


def test_a_fault_of_a_route_is_found_with_its_line(tmp_path: Path) -> None:
    broken = FILE.replace("to: quiet", "to: quite").replace('"{{ data.name }} failed"', '"{{ data.nmae }} failed"')
    checked = eventbus("config", "check", written(tmp_path / "x.yaml", broken), "--json")
    assert checked.exit_code == 2
    faults = {fault["path"]: (fault["line"], fault["message"]) for fault in json.loads(checked.stdout)["faults"]}
    assert faults["routes.production.title"] == (
        12,
        "there is no data.nmae, did you mean name?: it is no field of task.failed",
    )
    assert faults["routes.nights.to"][0] == 24
    assert faults["routes.production.fields.Version"][0] == 14


def test_a_template_that_is_malformed_is_found_with_its_line(tmp_path: Path) -> None:
    broken = "routes:\n  r:\n    topics: [vm.*]\n    to: log\n    text: |\n      first\n      {{ data.vm_id | uper }}\n"
    checked = eventbus("config", "check", written(tmp_path / "x.yaml", broken))
    assert checked.exit_code == 2
    assert "x.yaml:5: routes.r.text: line 2: there is no filter 'uper', did you mean upper?" in checked.stderr


def test_what_is_only_odd_is_a_warning(file: str) -> None:
    checked = eventbus("config", "check", file)
    assert checked.exit_code == 0
    assert "routes.nowhere.to: off is disabled, so nothing goes this way" in checked.stderr
    line = Path(file).read_text().partition('to: "off"')[0].count("\n") + 1
    assert f"warning: {file}:{line}: routes.nowhere.to: " in checked.stderr
    (warning,) = json.loads(eventbus("config", "check", file, "--json").stdout)["warnings"]
    assert (warning["line"], warning["path"]) == (line, "routes.nowhere.to")


ENDPOINTS = """
integrations:
  webhook:
    endpoints:
      - {name: billing, url: "https://one.example.com/x", topics: [vm.*], secret: 0123456789abcdef0123456789abcdef}
      - {name: audit, url: "https://two.example.com/x", topics: ["*.failed"], secret: 0123456789abcdef0123456789abcdef}
routes:
  told: {topics: [task.failed, task.*], to: webhook, text: "{{ data.error }}"}
  billed:
    topics: [task.failed]
    to: webhook
    text: "{{ data.error }}"
    target: billing
  unheard:
    topics: [vm.created, custom.x]
    to: webhook
"""


def test_a_route_to_endpoints_that_do_not_take_its_topics_is_a_warning_and_goes_nowhere(tmp_path: Path) -> None:
    file = written(tmp_path / "x.yaml", ENDPOINTS)
    checked, nothing = eventbus("config", "check", file, "--json"), "so nothing goes this way: add it there"
    assert checked.exit_code == 0, checked.output
    assert [(one["line"], one["path"], one["message"]) for one in json.loads(checked.stdout)["warnings"]] == [
        (
            10,
            "routes.billed.topics.0",
            f"task.failed is not among the topics of the target billing of webhook, {nothing}",
        ),
        (
            15,
            "routes.unheard.topics.1",
            f"custom.x is not among the topics of any target of webhook, {nothing}",
        ),
    ]
    failed = json.loads(eventbus("routes", "test", "task.failed", "--config", file, "--json").stdout)["routes"]
    assert {one["route"]: one["reason"] for one in failed if one["route"] != "unheard"} == {
        "told": "",
        "billed": "no target of webhook that takes task.failed is meant",
    }
    assert [one["doing"] for one in failed[0]["requests"]] == ["webhook to audit"]
    nobody = written(tmp_path / "y.yaml", ENDPOINTS.replace("target: billing", "target: nobody"))
    (fault,) = json.loads(eventbus("config", "check", nobody, "--json").stdout)["faults"]
    assert (fault["line"], fault["path"]) == (13, "routes.billed.target")
    assert fault["message"] == "webhook has no target 'nobody'; it has: billing, audit"
    custom = json.loads(eventbus("routes", "test", "custom.x", "--config", file, "--json").stdout)["routes"]
    assert custom[-1]["reason"] == "no target of webhook that takes custom.x is meant"


# -- diff ------------------------------------------------------------------------------------------------------------

NOW = """
integrations: {log: {topics: [vm.*]}}
routes:
  a: {topics: [task.failed], to: log, text: "{{ data.error }}"}
  b: {topics: [task.failed], to: log, text: all, target: all}
"""
THEN = """
integrations: {log: {topics: [vm.*]}}
routes:
  a: {topics: [task.failed], to: log, text: "{{ data.error | upper }}"}
  c: {topics: [task.started], to: log, text: "{{ data.name }} started"}
"""


def test_another_file_is_compared_over_the_events_of_the_log(desk: Desk, tmp_path: Path) -> None:
    desk.publish("task.started", task_id="1", name="nightly")
    failed = desk.publish("task.failed", task_id="1", error="disk full")
    desk.publish("vm.created", vm_id="1")
    files = ("--config", written(tmp_path / "now.yaml", NOW), "--url", desk.url)
    new = written(tmp_path / "then.yaml", THEN)

    done = json.loads(eventbus("routes", "diff", new, "--since", "1h", "--json", *files).stdout)
    assert done["looked_at"] == 3
    assert [(one["kind"], one["event"]["topic"]) for one in done["changes"]] == [
        ("appear", "task.started"),
        ("change", "task.failed"),
        ("vanish", "task.failed"),
    ]
    changed = done["changes"][1]
    assert changed["event"]["id"] == failed
    assert ("disk full" in changed["before"]["text"], "DISK FULL" in changed["after"]["text"]) == (True, True)

    shown = eventbus("routes", "diff", new, *files).stdout
    assert '    -   "message": "disk full"\n    +   "message": "DISK FULL"\n' in shown
    counts = "1 message would appear, 1 message would vanish, 1 message would change"
    assert shown.endswith(f"\n3 events looked at: {counts}\n")


def test_the_same_file_changes_nothing(desk: Desk, tmp_path: Path) -> None:
    desk.publish("task.failed", task_id="1", error="disk full")
    now = written(tmp_path / "now.yaml", NOW)
    done = eventbus("routes", "diff", now, "--config", now, "--url", desk.url)
    assert (done.exit_code, done.stdout) == (0, "1 event looked at: every message stays as it is\n")


def test_a_new_file_with_faults_is_exit_code_2(tmp_path: Path) -> None:
    now, new = written(tmp_path / "now.yaml", NOW), written(tmp_path / "new.yaml", "routes: {r: {to: log}}")
    assert eventbus("routes", "diff", new, "--config", now).exit_code == 2


@pytest.mark.parametrize(
    ("integrations", "said"),
    [
        (
            "{log: {topics: [vm.*]}, datadog: {topics: [task.*]}, cloudwatch: {region: eu-west-1, namespace: X}}",
            (
                "no route names it, and by itself none of these does: log, datadog, cloudwatch; add it to the topics "
                "of log, or let the settings of datadog or cloudwatch ask for it\n"
            ),
        ),
        (
            "{prometheus: {topics: [vm.*]}}",
            "no route names it, and by itself none of these does: prometheus; add it to",
        ),
        ("{log: {enabled: false}}", "no integration is enabled; eventbus integrations list"),
    ],
)
def test_a_topic_that_nothing_takes_is_told_with_what_to_do(tmp_path: Path, integrations: str, said: str) -> None:
    file = written(tmp_path / "few.yaml", f"integrations: {integrations}\n")
    done = eventbus("routes", "test", "task.failed", "--config", file)
    assert (done.exit_code, done.stdout.startswith(f"nothing takes task.failed: {said}")) == (0, True), done.stdout


def test_a_comparison_knows_what_the_settings_of_an_integration_ask_for(desk: Desk, tmp_path: Path) -> None:
    desk.publish("shop.order.paid", order="1")
    now = written(tmp_path / "now.yaml", "integrations: {prometheus: {}}\n")
    new = written(tmp_path / "new.yaml", f"integrations: {{prometheus: {CHOOSING['prometheus']}}}\n")
    changes = json.loads(eventbus("routes", "diff", new, "--config", now, "--url", desk.url, "--json").stdout)[
        "changes"
    ]
    assert [(one["kind"], one["after"]["to"]) for one in changes] == [("appear", "prometheus")]
