"""What `eventbus config check` finds about routes, at the desk and not at night."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from integrations.base import Manifest, Target
from registry.routes.check import check
from registry.routes.model import WORDS
from tests.registry.routes.conftest import routing


class Issue(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str
    number: int | None = None


MANIFESTS = {
    "slack": Manifest("slack", "Slack", BaseModel, handles=("task.*",), notifications=("message",)),
    "github": Manifest("github", "GitHub", BaseModel, handles=(">",), artifacts={"issue": Issue}),
}
WINDOWS = {"nights": [{"times": [{"start_time": "22:00", "end_time": "24:00"}]}]}


def found(**route: Any) -> list[tuple[str, str]]:
    of = routing({"r": {"topics": ["task.failed"], "to": "slack", **route}}, windows=WINDOWS)
    return [
        (".".join(map(str, one.path)) + (" (warning)" if one.is_warning else ""), one.message)
        for one in check(of, MANIFESTS, disabled={"off"})
    ]


@pytest.mark.parametrize(
    "route",
    [
        {},
        {"text": "{{ data.error }} {{ data.duration_ms | duration }} {{ data.result }}", "topics": ["task.*"]},
        {"text": "{{ data.whatever.there.is }}", "topics": ["custom.>", "custom.x"]},
        {"text": "x", "when": "data.environment == 'production' and data.duration_ms > 5", "mute": ["nights"]},
        {"to": "github", "artifact": "issue", "content": {"title": "{{ data.name }}"}},
        {"to": "github", "artifact": "issue", "content": {"number": "{{ data.name }}"}, "when": "data.environment"},
        {"text": "{{ data.body.pull_request.title }}", "topics": ["github.pull_request.*"]},
        {"text": "x", "dedup_key": "{{ data.task_id }}"},
        {"text": "x", "resolves": "topic == 'task.completed'", "group": {"by": ["data.environment", "severity"]}},
    ],
    ids=str,
)
def test_a_route_that_is_right_has_no_finding(route: dict[str, Any]) -> None:
    assert found(**route) == []


@pytest.mark.parametrize(
    ("route", "at", "said"),
    [
        ({"to": "slak"}, "r.to", "no integration 'slak', did you mean slack?; configured: github, slack"),
        ({"to": "off"}, "r.to (warning)", "off is disabled, so nothing goes this way"),
        (
            {"text": "x", "mute": ["night"]},
            "r.mute.0",
            "there is no window 'night', did you mean nights?; time_intervals has: nights",
        ),
        (
            {"text": "x", "notification": "approval"},
            "r.notification",
            "Slack makes no notification 'approval'; it makes: message",
        ),
        (
            {"artifact": "issue", "content": {"title": "x"}},
            "r.artifact",
            "Slack makes no artifact 'issue'; it makes: none",
        ),
        (
            {"topics": ["vm.created"]},
            "r.topics.0 (warning)",
            "Slack has no layout of its own for vm.created: give text",
        ),
        (
            {"topics": ["task.faild"], "text": "x"},
            "r.topics.0 (warning)",
            "no such topic is known; did you mean task.failed?",
        ),
        (
            {"text": "a\n{{ data.eror }}"},
            "r.text",
            "line 2: there is no data.eror, did you mean error?: it is no field of task.failed",
        ),
        (
            {"when": "data.duraton_ms > 5"},
            "r.when",
            "there is no data.duraton_ms, did you mean duration_ms?: it is no field of task.failed",
        ),
        ({"text": "{{ event.tim }}"}, "r.text", "there is no event.tim, did you mean time?: it is no field"),
        (
            {"text": "x", "fields": {"A": "{{ data.nope }}"}},
            "r.fields.A",
            "there is no data.nope: it is no field of task.failed",
        ),
        (
            {"text": "{{ data.error + 1 }}"},
            "r.text",
            "with the example of task.failed: data.error is text, not a number",
        ),
        (
            {"text": "x", "when": "data.error > 5"},
            "r.when",
            "with the example of task.failed: data.error > 5 can't be compared: data.error = '2 of 310 tests failed'",
        ),
        (
            {"text": "x", "severity": "{{ data.error_type }}"},
            "r.severity",
            f"with the example of task.failed: 'testfailure' is no severity; there is: {', '.join(WORDS)}",
        ),
        (
            {"text": "x", "dedup_key": "{{ data.task_id }}-{{ event.time }}"},
            "r.dedup_key (warning)",
            "event.time differs for every event: no later event will find what an earlier one made",
        ),
        (
            {"to": "github", "artifact": "issue", "content": {"titel": "x"}},
            "r.content",
            "with the example of task.failed: content.title: field required; titel: extra inputs are not permitted",
        ),
    ],
)
def test_a_fault_is_found_where_it_stands(route: dict[str, Any], at: str, said: str) -> None:
    assert (f"routes.{at}", said) in found(**route)


def test_a_field_that_one_of_several_topics_has_is_no_fault() -> None:
    assert found(topics=["task.completed", "task.failed"], text="{{ data.error }}") == []
    assert [at for at, _ in found(topics=["task.completed"], text="{{ data.error }}")] == ["routes.r.text"]


def test_the_expressions_of_a_group_are_checked_as_others_are() -> None:
    route = {"text": "x", "resolves": "data.taskid", "group": {"by": ["data.environment", "data.environmnt"]}}
    assert [at for at, _ in found(**route)] == ["routes.r.resolves", "routes.r.group.by.1"]


def test_inhibitions_are_checked_on_both_sides() -> None:
    sides = {"topics": ["vm.failde"], "mutes": {"topics": ["task.failed"], "when": "data.taskid == '1'"}}
    of = routing({}, inhibitions={"gone": {**sides, "resolves": "topic == 'vm.started'"}})
    assert [(one.path, one.is_warning) for one in check(of, MANIFESTS)] == [
        (("inhibitions", "gone", "topics", 0), True),
        (("inhibitions", "gone", "mutes", "when"), False),
    ]


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ({"group": {}}, "group belongs to a notification: add text"),
        ({"group": {}, "artifact": "issue", "content": {"title": "x"}}, "group belongs to a notification: add text"),
        ({"group": {"wait": -1}, "text": "x"}, "greater than or equal to 0"),
        ({"group": {"interval": 0}, "text": "x"}, "greater than 0"),
        ({"group": {"by": ["topik"]}, "text": "x"}, "there is no 'topik', did you mean topic?"),
        ({"group": {"title": "{{ data.x }}"}, "text": "x"}, "there is no 'data'; there is: group, firing, resolved"),
        ({"group": {"every": 5}, "text": "x"}, "Extra inputs are not permitted"),
    ],
    ids=str,
)
def test_what_can_t_be_grouped_is_refused(route: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        routing({"r": {"topics": ["task.failed"], "to": "slack", **route}})


@pytest.mark.parametrize(
    ("topic", "taken", "is_reached"),
    [
        ("vm.created", "vm.created", True),
        ("vm.created", "vm.*", True),
        ("vm.*", "*.created", True),
        ("vm.>", "*.*.failed", True),
        (">", "vm.created", True),
        ("a.*.c", "a.b.>", True),
        ("a.*", "a.b.>", False),
        ("vm.*", "task.*", False),
        ("vm.created", "vm.created.twice", False),
        ("vm.>", "vm", False),
    ],
)
def test_a_topic_that_no_target_takes_is_warned_of(topic: str, taken: str, is_reached: bool) -> None:
    for one, other in ((topic, taken), (taken, topic)):
        of = routing({"r": {"topics": [one], "to": "slack", "text": "x"}})
        said = check(of, MANIFESTS, targets={"slack": [Target("a", (other,)), Target("b", ("nothing.here",))]})
        assert [one.path for one in said if "any target" in one.message] == (
            [] if is_reached else [("routes", "r", "topics", 0)]
        )


def test_a_route_to_an_account_as_a_whole_reaches_it_whatever_it_takes_by_itself() -> None:
    of = routing({"r": {"topics": ["vm.created"], "to": "slack", "text": "x"}})
    assert check(of, MANIFESTS, targets={"slack": [Target("default", ("task.*",))]}) == []


def test_a_route_that_names_its_target_needs_that_one_to_take_its_topics() -> None:
    targets = {"slack": [Target("a", ("vm.*",)), Target("b", ("task.*",))]}
    for target, is_reached in (("a", True), ("b", False), ("{{ data.vm_id }}", True)):
        of = routing({"r": {"topics": ["vm.created"], "to": "slack", "text": "x", "target": target}})
        assert (check(of, MANIFESTS, targets=targets) == []) is is_reached


def test_a_target_that_there_is_not_is_a_fault_that_names_those_there_are() -> None:
    of = routing({"r": {"topics": ["vm.created"], "to": "slack", "text": "x", "target": "billin"}})
    (said,) = check(of, MANIFESTS, targets={"slack": [Target("billing", ("vm.*",)), Target("audit", ("task.*",))]})
    assert (said.path, said.is_warning) == (("routes", "r", "target"), False)
    assert said.message == "slack has no target 'billin', did you mean billing?; it has: billing, audit"
    assert check(of, MANIFESTS, targets={"slack": [Target("default", ("vm.*",))]}) == [], "a place of the service"


COUNTS = Manifest("counts", "Counts", BaseModel, handles=("task.*",))


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (COUNTS, "nothing in the settings of counts asks for vm.lost: nothing comes of it"),
        (replace(COUNTS, notifications=("message",)), "nothing in the settings of counts asks for vm.lost: give text"),
        (
            replace(COUNTS, notifications=("message",), artifacts={"issue": Issue}),
            "nothing in the settings of counts asks for vm.lost: give text or an artifact",
        ),
    ],
)
def test_of_an_adapter_that_chooses_by_its_settings_these_decide_what_it_has_a_layout_for(
    manifest: Manifest, said: str
) -> None:
    of = routing({"r": {"topics": ["shop.order.paid", "vm.lost"], "to": "counts"}})
    found = check(of, {"counts": manifest}, targets={"counts": [Target("default", ("shop.order.*",))]})
    assert [(one.path, one.message, one.is_warning) for one in found] == [(("routes", "r", "topics", 1), said, True)]
