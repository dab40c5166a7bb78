from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.payload import Payload
from eventbus.topics import (
    MigrationCompleted,
    MigrationFailed,
    MigrationRolledBack,
    TaskCompleted,
    TaskFailed,
    TaskStarted,
    VmCreated,
)
from integrations.base import Action, Notification
from integrations.github import render

MARKER = "<!-- eventbus:v1:0123456789abcdef0123456789abcdef -->"

HOSTILE = [
    "@ada please",
    "mail ada@example.com",
    "\\@ada and `@ada` and &#64;ada and &commat;ada and &#x40;ada and &amp;#64;ada",
    "@acme/core",
    "fixes #12, closes acme/api#13, resolves GH-14, gh-15",
    "Fixes https://github.com/acme/api/issues/16 and www.example.com",
    "[click](https://evil.example) ![x](https://evil.example/p.png) <https://evil.example>",
    "<img src=x onerror=alert(1)><script>alert(1)</script>",
    "<!-- eventbus:v1:0123456789abcdef0123456789abcdef -->",
    "<!-- open",
    "``` \n@ada\n```\n~~~\n@ada\n~~~",
    "`" * 300,
    "# heading\n---\n===\n- list\n+ list\n* list\n1. one\n1) one\n> quote\n| a | b |\n|--|--|",
    "    indented\n\tcode",
    "a\r\nb\rc\x00\x1b[31m\u202egnp.exe",
    "[ref]: https://evil.example\n[ref]",
    "trailing backslash \\",
    "*_**~~bold~~**_*",
    "$x$ $$y$$ :tada: https\\://evil.example",
]


class _Text(HTMLParser):
    """What a browser would show, and by which elements."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []
        self.tags: set[str] = set()
        self.remarks: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag == "br":
            self.shown.append("\n")

    def handle_data(self, data: str) -> None:
        self.shown.append(data)

    def handle_comment(self, data: str) -> None:
        self.remarks.append(data)


def shown(markdown: str) -> _Text:
    reader = _Text()
    reader.feed(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))
    reader.close()
    return reader


def words(text: str) -> list[str]:
    return "".join(c for c in render._clean(text) if c != render.ZWSP).split()


def event(payload: Payload) -> Event[Any]:
    return catalog.event(payload)


def comment(payload: Payload) -> str:
    text = render.event_comment(event(payload), MARKER)
    assert text is not None
    return text


def assert_harmless(text: str) -> None:
    """Nothing in it pings, refers, links or looks like a marker, in whatever way GitHub reads it."""
    assert not re.search(r"@\w", text)
    assert not re.search(r"#\w", text)
    assert not re.search(r"\bgh-\d", text, re.IGNORECASE)
    assert "<!--" not in text


hostile = st.one_of(
    st.text(max_size=300),
    st.text(alphabet="@#`~<>!-[]()*_\\&;:/|=+.$ \n\r\t1aGHgw\u200b", max_size=200),
    st.lists(st.sampled_from(HOSTILE), max_size=4).map(" ".join),
)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (
            TaskCompleted(task_id="t-1", name="unit tests", duration_ms=1834, result={"passed": 310}),
            '**Task completed:** unit tests (t-1)\n\n- Duration: 1.8 s\n\n```\n{\n  "passed": 310\n}\n```\n\n' + MARKER,
        ),
        (TaskStarted(task_id="t-1", worker="w_1"), f"**Task started:** t-1\n\n- Worker: w\\_1\n\n{MARKER}"),
        (TaskCompleted(task_id="t-1"), f"**Task completed:** t-1\n\n{MARKER}"),
        (
            TaskFailed(task_id="t-1", error="2 of 310 failed", error_type="TestFailure", environment="ci"),
            f"**Task failed:** t-1\n\n- Environment: ci\n- Error: TestFailure\n\n```\n2 of 310 failed\n```\n\n{MARKER}",
        ),
        (
            MigrationCompleted(migration="add_email", version="20260112", rows_affected=12000, duration_ms=64000),
            f"**Migration completed:** add\\_email (20260112)\n\n- Duration: 1 min 4 s\n- Rows: 12,000\n\n{MARKER}",
        ),
        (
            MigrationFailed(migration="m", error="lock timeout"),
            f"**Migration failed:** m\n\n```\nlock timeout\n```\n\n{MARKER}",
        ),
        (
            MigrationRolledBack(migration="m", reason="p95 doubled"),
            f"**Migration rolled back:** m\n\n```\np95 doubled\n```\n\n{MARKER}",
        ),
    ],
)
def test_each_event_reads_well(payload: Payload, said: str) -> None:
    assert comment(payload) == said


def test_an_event_that_github_is_not_told_of_has_no_comment() -> None:
    assert render.event_comment(event(VmCreated(vm_id="1")), MARKER) is None


@given(hostile, hostile)
@example("t", HOSTILE[0])
def test_no_event_can_ping_refer_link_or_forge_a_marker(name: str, error: str) -> None:
    text = comment(TaskFailed(task_id="t", name=name or None, error=error, error_type=name or None))
    assert text.endswith(MARKER)
    assert_harmless(text.removesuffix(MARKER))
    page = shown(text)
    assert page.tags <= {"p", "strong", "ul", "li", "pre", "code"}
    assert len(page.remarks) == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_a_fence_holds_whatever_stands_in_it(text: str) -> None:
    page = shown(render.fence(text, 200_000))
    assert page.tags == {"pre", "code"}
    assert words("".join(page.shown)) == words(text)


@given(hostile)
def test_prose_reads_as_it_was_written(text: str) -> None:
    page = shown(render.prose(text))
    assert page.tags <= {"p", "br"}
    assert page.remarks == []
    assert words("".join(page.shown)) == words(text)


@given(hostile)
@example("0)")
@example("- item")
def test_inline_text_stays_on_its_line(text: str) -> None:
    page = shown(f"- {render.inline(text)}")
    assert page.tags <= {"ul", "li"}


@pytest.mark.parametrize("text", HOSTILE)
def test_bare_addresses_are_no_links(text: str) -> None:
    assert "://" not in render.prose(text)
    assert not re.search(r"www\.\w", render.prose(text))


@given(st.integers(min_value=0, max_value=10_000_000))
def test_a_duration_has_a_unit(milliseconds: int) -> None:
    assert re.fullmatch(r"\d+ ms|\d+\.\d s|\d+ min \d+ s|[\d,]+ h \d+ min", render.duration(milliseconds))


def test_durations_are_rounded_for_people() -> None:
    known = [(0, "0 ms"), (350.4, "350 ms"), (1834, "1.8 s"), (125_000, "2 min 5 s"), (3_840_000, "1 h 4 min")]
    assert [render.duration(ms) for ms, _ in known] == [text for _, text in known]


@pytest.mark.parametrize(
    "error", ["line of a log\n" * 20_000, "word " * 60_000, "x" * 300_000, "@" * 200_000, "`" * 250_000]
)
def test_a_long_error_is_cut_at_the_limit_and_says_so(error: str) -> None:
    text = comment(TaskFailed(task_id="t", name="n" * 5000, error=error))
    assert render.MAX_CHARACTERS - 3000 < len(text) <= render.MAX_CHARACTERS
    assert re.search(rf" more characters\n`+\n\n{MARKER}$", text)
    assert shown(text).tags <= {"p", "strong", "pre", "code"}


def test_a_cut_ends_at_a_line_where_there_is_one() -> None:
    text = comment(TaskFailed(task_id="t", error="a whole line\n" * 20_000))
    assert "\na whole line\n... " in text


def test_a_text_that_just_fits_is_not_cut() -> None:
    room = render.MAX_CHARACTERS - len(comment(TaskFailed(task_id="t", error="")))
    assert len(comment(TaskFailed(task_id="t", error="x" * room))) == render.MAX_CHARACTERS
    assert "more characters" not in comment(TaskFailed(task_id="t", error="x" * room))
    assert "more characters" in comment(TaskFailed(task_id="t", error="x" * (room + 1)))


@pytest.mark.parametrize("start", ["", "x"])
def test_a_cut_does_not_take_a_backslash_from_what_it_escapes(start: str) -> None:
    assert "br" not in shown(render.prose(start) + render.inline(start + "*" * 500)).tags
    assert not re.search(r"(?<!\\)(\\\\)*\\\n", render.inline(start + "*" * 500))


@given(st.text(alphabet="ab \n\u0301\u200d\U0001f469\ufe0f", max_size=400), st.integers(min_value=40, max_value=399))
def test_cut_keeps_within_the_room_and_counts_what_is_missing(text: str, room: int) -> None:
    result = render.cut(text, room)
    assert len(result) <= max(room, 0)
    if len(text) > room:
        kept, _, note = result.rpartition("\n")
        assert text.startswith(kept)
        assert note == f"... {len(text) - len(kept):,} more characters"


def test_a_cut_does_not_take_an_accent_from_its_letter() -> None:
    text = "e\u0301" * 100
    kept = render.cut(text, 60).rpartition("\n")[0]
    assert kept == "e\u0301" * (len(kept) // 2)


def test_a_notification_is_escaped_prose_with_its_facts() -> None:
    notification = Notification(
        title="Release *2*",
        message="@ada: see #3\n1. first",
        fields={"Region": "eu_west"},
        url="https://example.com/r/2?a=b",
        actions=(Action(text="Undo", action_id="undo"),),
    )
    assert render.notification_comment(notification, MARKER) == (
        "**Release \\*2\\***\n\n@\u200bada: see \\#\u200b3\n1\\. first\n\n- Region: eu\\_west\n\n"
        f"[Read more](https://example.com/r/2?a=b)\n\n{MARKER}"
    )


@given(hostile.filter(bool))
def test_no_notification_can_ping_or_forge_a_marker(text: str) -> None:
    body = render.notification_comment(Notification(message=text, title=text, fields={text: text}, url=text), MARKER)
    assert len(body) <= render.MAX_CHARACTERS
    assert len(shown(body).remarks) == 1
    assert_harmless(re.sub(r"\[Read more\]\(.*?\)", "", body.removesuffix(MARKER)))


def test_a_long_notification_keeps_its_facts_and_its_link() -> None:
    notification = Notification(message="*" * 100_000, fields={"Region": "eu"}, url="https://example.com")
    body = render.notification_comment(notification, MARKER)
    assert len(body) <= render.MAX_CHARACTERS
    assert body.endswith(f"more characters\n\n- Region: eu\n\n[Read more](https://example.com)\n\n{MARKER}")
    assert "em" not in shown(body).tags


def test_a_link_that_is_too_long_is_left_out_and_the_text_keeps_its_room() -> None:
    notification = Notification(message="*" * 100_000, url=f"https://example.com/{'x' * 100_000}")
    body = render.notification_comment(notification, MARKER)
    assert len(body) <= render.MAX_CHARACTERS
    assert body.endswith(f"more characters\n\n{MARKER}")


def test_a_trusted_body_of_an_artifact_is_used_as_it_is() -> None:
    body = render.artifact_body("Thanks @ada, fixes #12 ![x](https://a.example/p.png)", MARKER, trusted=True)
    assert body == f"Thanks @ada, fixes #12 ![x](https://a.example/p.png)\n\n{MARKER}"


def test_a_long_body_of_an_artifact_is_cut_and_its_code_block_closed() -> None:
    body = render.artifact_body("See\n\n````python\n" + "print()\n" * 20_000, MARKER)
    assert len(body) <= render.MAX_CHARACTERS
    page = shown(body)
    assert len(page.remarks) == 1
    assert "eventbus:v1" not in "".join(page.shown)


# -- Markdown that keeps its format -----------------------------------------------------------------------------------


@given(hostile)
@example("&#64;ada &commat;ada &num;12 &#x40;ada")
def test_markdown_of_an_artifact_pings_and_refers_to_nothing_and_loads_nothing(text: str) -> None:
    body = render.artifact_body(text, MARKER)
    page = shown(body.removesuffix(MARKER))
    said = "".join(page.shown)
    assert not re.search(r"@\w|#\d|\bgh-\d", said, re.IGNORECASE)
    assert not page.tags & {"img", "picture", "source", "video", "audio", "svg"}
    assert page.remarks == []
    assert "<!--" not in body.removesuffix(MARKER)


@pytest.mark.parametrize(
    "text",
    [
        "# Head\n\n- one\n- *two* `code` [link](https://example.com/a?b=c#section)\n\n| a | b |\n|---|---|\n| 1 | 2 |",
        "```python\nprint(1)\n```\n\n> quoted <details><summary>More</summary>x</details>",
        "Tom &amp; Jerry &lt;3 e-mail: 5 > 3! [x]: y",
    ],
)
def test_markdown_that_does_nothing_is_left_as_it_is(text: str) -> None:
    assert render.markdown(text, 65_536, trusted=False) == text


@pytest.mark.parametrize("kind", ["issues", "pull", "discussions", "commit"])
def test_the_full_address_of_an_issue_is_no_reference(kind: str) -> None:
    text = render.markdown(f"Fixes https://github.com/acme/api/{kind}/16", 1000, trusted=False)
    assert "://github.com" not in text


@given(hostile.filter(lambda text: bool(text.strip())))
def test_a_title_is_one_line_and_refers_to_nothing(text: str) -> None:
    title = render.title(text, trusted=False)
    assert "\n" not in title
    assert not re.search(r"@\w|#\d|\bgh-\d", title, re.IGNORECASE)


def test_a_title_that_grows_by_what_breaks_it_still_fits() -> None:
    assert len(render.title("@a " * 85, trusted=False)) <= render.MAX_TITLE


SECTION = "## Section\n\nSome words.\n\n```\ncode\n\nmore code\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\n"


@given(st.integers(min_value=300, max_value=3000))
def test_a_cut_between_blocks_splits_no_table_and_no_code(room: int) -> None:
    text = SECTION * 40
    kept, _, note = render.cut_block(text, room).rpartition("\n\n")
    assert len(kept) + len(note) + 2 <= room
    assert text.startswith(kept)
    assert note == f"... {len(text) - len(kept):,} more characters"
    assert kept.split("\n")[-1] in ("## Section", "Some words.", "```", "| 3 | 4 |")
    assert kept.count("```") % 2 == 0


@pytest.mark.parametrize("fence", ["```", "~~~~", "`" * 40])
def test_a_code_block_larger_than_half_of_the_room_is_cut_at_a_line_and_closed(fence: str) -> None:
    text = f"Log:\n\n{fence}text\n" + "a line\n" * 2000 + f"{fence}\n\nEnd"
    result = render.cut_block(text, 1000)
    assert 900 < len(result) <= 1000
    assert re.search(rf"\na line\n{fence}\n\n\\.\\.\\. [\d,]+ more characters$".replace("\\\\", "\\"), result)
    assert "more characters" in "".join(shown(result).shown).split("a line")[-1]


def test_a_table_larger_than_half_of_the_room_is_cut_at_a_row() -> None:
    text = "Rows:\n\n| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 500
    result = render.cut_block(text, 1000)
    assert len(result) <= 1000
    assert re.search(r"\n\| 1 \| 2 \|\n\n\.\.\. [\d,]+ more characters$", result)


@given(hostile, st.integers(min_value=60, max_value=400))
def test_a_cut_between_blocks_keeps_within_the_room(text: str, room: int) -> None:
    assert len(render.cut_block(text * 3, room)) <= room


def test_a_body_that_just_fits_is_not_cut() -> None:
    room = render.MAX_CHARACTERS - len(f"\n\n{MARKER}")
    assert render.artifact_body("x" * room, MARKER) == "x" * room + f"\n\n{MARKER}"
    assert "more characters" in render.artifact_body("x" * (room + 1), MARKER)
