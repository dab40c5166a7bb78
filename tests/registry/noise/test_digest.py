"""The words of a group: one alert as its route renders it, several as one message."""

from __future__ import annotations

from typing import Any

from integrations.base import Notification, Severity
from registry.noise.digest import MAX_LINE, digest
from registry.noise.group import Alert, Flush, Group
from registry.routes.model import Grouping

PLAIN = Grouping()


def alert(text: str, status: str = "firing", severity: Severity = Severity.ERROR, **more: Any) -> Alert:
    what = Notification(message=f"{text} broke", title=text, severity=severity, url=f"https://ci/{text}")
    facts = {"event_id": text, "sequence": 1, "since": 0, "at": 0, "what": what.model_copy(update=more.pop("what", {}))}
    return Alert.model_validate({"status": status, **facts, **more})


def said(*alerts: Alert, rules: Grouping = PLAIN, kind: str | None = None, beyond: int = 0) -> Notification:
    group = Group(route="failures", values={"environment": "prod", "host": ""}, beyond=beyond)
    flush = Flush(group, "first notification", {str(number): one for number, one in enumerate(alerts)})
    return digest(flush, rules, kind, ("message", "resolve"))


def test_one_alert_is_told_of_as_its_route_renders_it() -> None:
    one = alert("add_email")
    assert said(one) == one.what


def test_several_are_counted_listed_and_as_loud_as_the_loudest_that_fires() -> None:
    made = said(
        alert("a", severity=Severity.WARNING),
        alert("b", severity=Severity.ERROR),
        alert("c", "resolved", Severity.CRITICAL),
    )
    assert made.title == "[2 firing, 1 resolved] environment=prod, host="
    assert made.message == "a\nb\nresolved: c"
    assert made.severity is Severity.ERROR
    assert made.fields == {"environment": "prod"}
    assert made.url is None


def test_moments_are_new() -> None:
    assert said(alert("a", "momentary"), alert("b", "momentary")).title == "[2 new] environment=prod, host="


def test_what_has_no_title_is_listed_by_its_first_line() -> None:
    long = "x" * 2 * MAX_LINE
    made = said(alert("a", what={"title": None}), alert("b", what={"title": None, "message": f"{long}\nmore"}))
    assert made.message == f"a broke\n{'x' * (MAX_LINE - 3)}..."


def test_after_twenty_lines_and_beyond_the_bound_the_rest_is_a_number() -> None:
    assert said(*(alert(f"m{n}") for n in range(25))).message.splitlines()[19:] == ["m19", "... 5 more"]
    assert said(*(alert(f"m{n}") for n in range(25)), beyond=3_000).message.endswith("\n... 3,005 more")
    assert said(alert("a"), beyond=2).message == "a\n... 2 more"


def test_a_page_that_all_share_is_linked() -> None:
    same = {"url": "https://wiki/timeouts"}
    assert said(alert("a", what=same), alert("b", what=same)).url == "https://wiki/timeouts"


def test_the_end_of_all_is_told_as_resolve_where_there_is_such_a_kind_and_the_route_names_none() -> None:
    one = alert("a", "resolved", Severity.INFO)
    assert said(one).type == "resolve"
    assert said(one, alert("b", "resolved")).type == "resolve"
    assert said(one, alert("b")).type == "message"
    assert said(one, kind="message").type == "message"
    group = Group(route="r", values={})
    assert digest(Flush(group, "all alerts resolved", {"a": one}), PLAIN, None, ("message",)).type == "message"


def test_what_is_over_by_time_says_so_since_no_event_did() -> None:
    made = said(alert("a", "resolved", Severity.CRITICAL, by_time=True))
    assert (made.title, made.severity) == ("[resolved] a", Severity.INFO)
    assert said(alert("a", "resolved", Severity.INFO)).title == "a"


def test_the_texts_of_the_settings_see_the_group_and_its_alerts() -> None:
    rules = Grouping.model_validate(
        {
            "title": "{{ status }} in {{ group.environment }}: {{ firing | length }}",
            "text": "{% for one in firing %}{{ one.title }} {{ one.data.x }} {{ one.severity }} {{ one.topic }} "
            "{{ one.since }};{% endfor %}{% for one in resolved %} {{ one.title }} is over{% endfor %}",
        }
    )
    names = {"topic": "vm.failed", "data": {"x": 7}}
    made = said(alert("a", names=names), alert("b", "resolved"), rules=rules)
    assert made.title == "firing in prod: 1"
    assert made.message == "a 7 error vm.failed 1970-01-01T00:00:00+00:00; b is over"
