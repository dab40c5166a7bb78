from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.topics.approval import Vote
from integrations.base import Action, Health, Notification, Severity
from integrations.slack import blocks, render
from integrations.slack.approvals import Approval, Asked, Standing
from integrations.slack.blocks import Message
from integrations.slack.fake import refusal

PERSON = re.compile(r"<@U0[AB]>")
LINK = re.compile(r"<https?://[^<>|\s]+>")
HOSTILE = st.sampled_from(
    [
        "<!channel>",
        "<!here|here>",
        "<@U0ADA>",
        "<!subteam^S1>",
        "<#C1|x>",
        "<https://evil.example|good.example>",
        "https://evil.example/|<!channel>",
        "https://a.example/<!channel>",
        "https://a.example/?x=1&y=2",
        "```",
        "&lt;!channel&gt;",
        "&",
        "*",
        "\u0000\u001b[31m",
        "\u2028",
        "\U0001f680",
        "\n",
    ]
)


class Long(str):
    """Text whose representation stays short in Hypothesis' reports."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{str(self)[:60]!r} ({len(self)} characters)"


REPEATED = st.builds(lambda piece, times: piece * times, HOSTILE, st.sampled_from([1, 30, 149, 700, 3001]))
TEXT = st.lists(st.text(st.characters(codec="utf-8"), max_size=20) | REPEATED, min_size=1, max_size=3).map(
    lambda p: Long("".join(p))
)
few = settings(max_examples=40, deadline=None)


def texts(value: Any) -> list[str]:
    """Every text that Slack would read as markup or show."""
    if isinstance(value, dict):
        own = [value["text"]] if isinstance(value.get("text"), str) else []
        return own + [text for inner in value.values() for text in texts(inner)]
    return [text for inner in value for text in texts(inner)] if isinstance(value, (list, tuple)) else []


def assert_fit_for_slack(message: Message) -> None:
    assert refusal({"text": message.text, "blocks": list(message.blocks)}) is None
    for text in [message.text, *texts(message.blocks)]:
        rest = LINK.sub("", text)
        assert "<" not in rest
        assert ">" not in rest
        assert re.sub(r"&(amp|lt|gt);", "", rest).count("&") == 0
        text.encode()


def event(topic: str, data: dict[str, Any]) -> Event[Any]:
    return catalog.event(topic, data, key="k")


@few
@given(TEXT, TEXT, TEXT, st.dictionaries(TEXT, TEXT, max_size=14))
def test_no_event_text_can_ping_anybody_or_break_a_limit(a: str, b: str, c: str, more: dict[str, str]) -> None:
    for made in (
        event(
            "task.failed",
            {"task_id": a, "name": b, "error": c, "pull_request": a, **{f"x{k}": v for k, v in more.items()}},
        ),
        event("custom.thing", {**more, "url": b, "nested": {a: [b, {c: a}]}}),
        event("vm.failed", {"vm_id": a, "vm_name": b, "error": c}),
    ):
        message = render.event_message(made)
        assert message is not None
        assert_fit_for_slack(message)


@few
@given(TEXT, TEXT, st.dictionaries(TEXT, TEXT, max_size=14), st.sampled_from(Severity), st.integers(0, 25))
def test_no_notification_text_can_ping_anybody_or_break_a_limit(
    title: str, body: str, fields: dict[str, str], severity: Severity, number: int
) -> None:
    actions = tuple(Action(text=(title or "x")[:75], action_id=f"a{n}", value="v" * 2000) for n in range(number))
    notification = Notification(
        message=body or "-", title=title, fields=fields, severity=severity, url=body, actions=actions
    )
    assert_fit_for_slack(render.notification_message(notification))


@few
@given(TEXT, TEXT, st.sampled_from(["open", "granted", "rejected", "expired"]))
def test_no_approval_can_ping_anybody_but_those_it_names_or_break_a_limit(
    title: str, body: str, stands: Standing
) -> None:
    what = Approval(title=(title or "x")[:140], text=body[:3000], approvers=("U0A", "U0B"), quorum=2)
    now = datetime(2026, 1, 12, tzinfo=UTC)
    votes = [Vote(user_id=user, decision="approve", at=now) for user in what.approvers]
    message = render.approval_message(Asked(id="x", what=what, expires_at=now), votes, stands)
    shown = json.loads(PERSON.sub("", json.dumps(message.blocks)))
    assert_fit_for_slack(Message(message.text, tuple(shown)))


@few
@given(st.dictionaries(TEXT, TEXT | st.just("\ud800"), max_size=40))
def test_no_component_or_machine_can_ping_anybody_or_break_a_limit(named: dict[str, str]) -> None:
    assert_fit_for_slack(render.status_message({name: Health("degraded", text) for name, text in named.items()}))
    rows = {vm_id: {"name": name, "state": "running", "since": "today"} for vm_id, name in named.items()}
    assert_fit_for_slack(render.vm_list_message(rows))


@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=300), st.integers(2, 200))
def test_a_cut_falls_between_characters_and_never_inside_an_escape(text: str, limit: int) -> None:
    escaped = blocks.escape(text, limit)
    assert len(escaped.encode("utf-16-le")) // 2 <= limit
    shown = html.unescape(escaped) if "&" in escaped else escaped
    whole = text.strip() or "-"
    assert shown == whole or (shown.endswith("\u2026") and whole.startswith(shown[:-1]))


def test_a_text_that_just_fits_is_not_cut() -> None:
    assert blocks.escape("x" * 150, 150) == "x" * 150
    assert blocks.escape("x" * 151, 150) == "x" * 149 + "\u2026"
    assert blocks.escape("&" * 31, 150) == "&amp;" * 29 + "\u2026"


def test_an_error_is_cut_at_500_characters_and_cannot_leave_its_block() -> None:
    long = blocks.code("\U0001f680" * 600)["text"]["text"]
    assert long == "```\n" + "\U0001f680" * 500 + "\u2026\n```"
    breaking = blocks.code("before ``` <!channel> ````` after")["text"]["text"]
    assert breaking.count("```") == 2
    assert "<!channel>" not in breaking


def test_a_link_is_made_of_a_plain_web_address_only() -> None:
    assert (
        blocks.link("https://github.com/acme/api/pull/7?a=1&b=2") == "<https://github.com/acme/api/pull/7?a=1&amp;b=2>"
    )
    for text in (
        "javascript:alert(1)",
        "https://a.example|b",
        "https://a.example b",
        "https://\u0430.example",
        "see https://a.example",
    ):
        assert not isinstance(blocks.link(text), blocks.Markup)


def test_a_person_is_named_by_an_id_and_by_nothing_else() -> None:
    assert blocks.person("U0ADA") == "<@U0ADA>"
    for text in ("!channel", "@here", "u0ada", "U0ADA|x", "U0ADA>", "<!channel>", "S1TEAM", "U", ""):
        assert blocks.person(text) == text
        assert not isinstance(blocks.person(text), blocks.Markup)


def test_fields_beyond_the_tenth_are_counted_not_lost_in_silence() -> None:
    section, note = blocks.fields({f"f{n}": "v" for n in range(13)})
    assert len(section["fields"]) == 10
    assert note["elements"][0]["text"] == "and 3 more"


def test_lines_that_do_not_fit_are_counted() -> None:
    shown = blocks.lines([f"{n} " + "x" * 200 for n in range(100)])["text"]["text"]
    assert len(shown) <= 3000
    kept = len(shown.splitlines()) - 1
    assert shown.endswith(f"and {100 - kept} more")


def test_the_largest_message_there_can_be_is_still_taken() -> None:
    long = "&" * 5000
    named = {f"{n} {long}": long for n in range(14)}
    failed = render.event_message(event("task.failed", {"task_id": long, "error": long, **named}))
    assert failed is not None
    assert_fit_for_slack(failed)
    actions = tuple(Action(text="x" * 75, action_id=f"a{n}") for n in range(25))
    assert_fit_for_slack(
        render.notification_message(Notification(message=long, title=long, fields=named, url=long, actions=actions))
    )
