"""What a taken route gives its integration."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from eventbus import Event
from integrations.base import Artifact, Notification, Severity
from registry.routes.decide import Decision
from registry.routes.render import MAX_THREAD, Rendered, RenderError, render
from tests.registry.routes.conftest import failed, routing

RUNBOOKS = {"production": {"TimeoutError": "https://wiki.example.com/timeouts"}}


class Issue(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str
    number: int | None = None
    labels: list[str] = []


def rendered(event: Event[Any] | None = None, artifacts: Any = None, **more: Any) -> Rendered:
    of = routing({"r": {"topics": [">"], "to": "slack", **more}}, RUNBOOKS)
    return render(event or failed(), Decision("r", of.routes["r"]), of, artifacts)


def notification(event: Event[Any] | None = None, **more: Any) -> Notification:
    what = rendered(event, **{"text": "x", **more}).what
    assert isinstance(what, Notification)
    return what


def test_a_route_without_words_gives_the_event_itself() -> None:
    event = failed()
    assert rendered(event) == Rendered(event, "migration:add_email")


def test_a_notification_with_everything() -> None:
    made = notification(
        title="{{ data.migration }} failed",
        text="{{ data.error | upper }}\n",
        fields={"Environment": "{{ data.environment }}", "Version": "{{ data.version }}"},
        severity={"by": "data.environment", "map": {"production": "critical"}},
        target="#{{ data.environment }}",
        url="{{ runbook }}",
        actions=[{"text": "Retry {{ data.migration }}", "action_id": "retry", "value": "{{ event.id }}"}],
    )
    assert (made.title, made.message, made.severity) == ("add_email failed", "LOCK TIMEOUT", Severity.CRITICAL)
    assert (made.fields, made.target) == ({"Environment": "production"}, "#production"), "what is empty is left out"
    assert made.url == "https://wiki.example.com/timeouts"
    assert [(action.text, len(action.value)) for action in made.actions] == [("Retry add_email", 36)]


def test_a_message_whose_text_comes_out_empty_goes_out_all_the_same() -> None:
    made = rendered(text="{{ data.nope }}", title="{{ data.version }}")
    assert isinstance(made.what, Notification)
    assert (made.what.message, made.what.title) == ("migration.failed", None)
    assert [note.text for note in made.notes] == ["text: data.nope is missing", "title: data.version is null"]


@pytest.mark.parametrize(
    ("severity", "made"),
    [
        (None, "info"),
        ("critical", "critical"),
        ("High", "error"),
        ("medium", "warning"),
        ("low", "info"),
        ("{{ 'critical' if data.environment == 'production' else 'info' }}", "critical"),
        ("{{ data.nope }}", "info"),
        ("{{ data.error }}", "error"),
        ({"by": "data.environment", "map": {"staging": "info"}}, "warning"),
        ({"by": "data.nope", "map": {"staging": "info"}, "default": "low"}, "info"),
    ],
)
def test_severities_in_any_of_their_spellings(severity: Any, made: str) -> None:
    """A word that is none of them is an error: too loud rather than unheard."""
    assert notification(severity=severity).severity == made


def test_the_severity_is_there_for_the_words() -> None:
    assert notification(severity="critical", text="{{ severity | upper }}!").message == "CRITICAL!"


def test_the_dedup_key_is_the_thread() -> None:
    assert rendered(dedup_key="{{ data.migration }}-{{ data.environment }}").thread == "add_email-production"


def test_a_dedup_key_with_a_hole_in_it_gives_way_to_the_event_s_own_key() -> None:
    """`add_email-` would put together what happened in different places."""
    made = rendered(failed(environment=None), dedup_key="{{ data.migration }}-{{ data.environment }}")
    assert made.thread == "migration:add_email"
    assert [note.text for note in made.notes] == ["dedup_key: data.environment is null"]


def test_a_long_dedup_key_stays_one_of_its_own() -> None:
    keys = {rendered(failed(error="x" * 5000 + end), dedup_key="{{ data.error }}").thread for end in "ab"}
    assert len(keys) == 2
    assert all(len(key) <= MAX_THREAD for key in keys)


def test_actions_are_cut_to_their_limits() -> None:
    long = failed(error="e" * 9000)
    (action,) = notification(
        long, actions=[{"text": "{{ data.error }}", "action_id": "a", "value": "{{ data.error }}"}]
    ).actions
    assert (len(action.text), action.text[-4:], len(action.value)) == (75, "e...", 2000)


def test_an_artifact_is_filled_in_to_its_depth_and_checked() -> None:
    content = {
        "title": "{{ data.migration }} failed",
        "labels": ["bug", "{{ data.version }}"],
        "number": "{{ data.version }}",
    }
    made = rendered(artifact="issue", content=content, artifacts={"issue": Issue})
    assert made.what == Artifact(type="issue", content={"title": "add_email failed", "labels": ["bug"]})


def test_an_artifact_that_does_not_fit_names_route_field_and_cause() -> None:
    with pytest.raises(
        RenderError, match=r"^route r: content.title: field required \(content.title: data.nope is missing\)$"
    ):
        rendered(artifact="issue", content={"title": "{{ data.nope }}"}, artifacts={"issue": Issue})
    with pytest.raises(RenderError, match="route r: artifact: no 'ticket' is made; there is: issue"):
        rendered(artifact="ticket", content={"a": "b"}, artifacts={"issue": Issue})


def test_a_note_names_the_line_of_a_long_template() -> None:
    (note,) = rendered(text="first\n{{ data.nope }}\n").notes
    assert note.text == "text line 2: data.nope is missing"
