"""Which lines a query finds, in which order and pages, whatever else lies in the journal."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from eventbus import EventBus
from eventbus.journal import START, Said
from registry.sections import Log
from service import journal, log_lines
from service.log_lines import Line, Query, later, search

DOCS = Path(__file__).parents[2] / "docs"
NOW = datetime(2026, 1, 12, 3, tzinfo=UTC)


def raw(message: str = "said", **said: Any) -> Said:
    line = {"timestamp": NOW.isoformat(), "level": "info", "logger": "service.worker", "program": "worker", **said}
    return Said(json.dumps({"event": message, **line}).encode(), line["level"] not in ("debug", "info"))


def line(message: str = "said", **said: Any) -> Line:
    found = Line.of(raw(message, **said).line)
    assert found is not None
    return found


DELIVERY = line("not delivered", logger="delivery", integration="github", error="GitHub answered 502", event_id="e1")


@pytest.mark.parametrize(
    ("said", "component"),
    [
        ({"logger": "delivery", "integration": "github"}, "github"),
        ({"logger": "eventbus.consumer", "group": "webhook.billing"}, "webhook.billing"),
        ({"logger": "registry", "account": "slack"}, "slack"),
        ({"logger": "service.gateway"}, "service.gateway"),
        ({"logger": None, "program": None}, ""),
    ],
)
def test_the_component_is_whom_a_line_is_about_else_who_wrote_it(said: dict[str, Any], component: str) -> None:
    assert line(**said).component == component


@pytest.mark.parametrize("component", ["github", "delivery", "worker"])
def test_a_component_is_an_integration_a_logger_or_a_program(component: str) -> None:
    assert DELIVERY.fits(Query(component=component))


@pytest.mark.parametrize("component", ["git", "hub", "GitHub", "github.", "gateway", "*", "{integration}"])
def test_part_of_a_name_is_no_component(component: str) -> None:
    assert not DELIVERY.fits(Query(component=component))


def test_a_component_has_all_that_is_below_it() -> None:
    consumer = line(logger="eventbus.consumer", group="webhook.billing")
    for name in ("webhook", "webhook.billing", "eventbus", "eventbus.consumer", "event_bus"):
        assert consumer.fits(Query(component=name)), name
    assert not consumer.fits(Query(component="webhook.bill"))


@pytest.mark.parametrize(("level", "found"), [("debug", 5), ("info", 4), ("warning", 3), ("error", 2), ("critical", 1)])
def test_a_level_has_those_above_it(level: Any, found: int) -> None:
    assert sum(line(level=one).fits(Query(level=level)) for one in log_lines.LEVELS) == found


def test_an_event_is_found_by_its_id_and_by_nothing_like_it() -> None:
    assert DELIVERY.fits(Query(event_id="e1"))
    assert not DELIVERY.fits(Query(event_id="e"))
    assert not line("e1", note="e1").fits(Query(event_id="e1"))


def test_a_text_is_found_in_the_message_and_in_fields_in_any_case() -> None:
    for text in ("NOT deliv", "answered 502", "github", "e1"):
        assert DELIVERY.fits(Query(contains=text)), text
    assert line(deep={"a": ["Straße {0} %s"]}).fits(Query(contains="STRASSE {0} %S"))
    for text in ("error", "delivered not", "2026", ".*"):
        assert not DELIVERY.fits(Query(contains=text)), text


def test_since_counts_by_the_clock_of_the_program() -> None:
    assert line().fits(Query(since=NOW))
    assert not line().fits(Query(since=NOW + timedelta(milliseconds=1)))


@pytest.mark.parametrize(
    "wrong",
    [
        *({"level": "loud"}, {"level": "INFO "}, {"level": None}, {"limit": 0}, {"limit": 1001}, {"limit": True}),
        *({"limit": "10"}, {"since": "2026-01-12T09:00"}, {"since": "yesterday"}, {"component": ""}, {"component": 1}),
        *({"next": "$"}, {"next": "1-0) - +"}, {"next": "9" * 21 + "-0"}, {"contains": ""}, {"contains": "x" * 501}),
        *({"event_id": "x" * 201}, {"levle": "info"}, {"next": f"{1 << 64}-0"}, {"next": "1-99999999999999999999"}),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Query.model_validate(wrong)


async def test_the_newest_come_first_and_pages_follow_without_a_gap(bus: EventBus) -> None:
    await bus.journal.append([raw(str(n), level="error" if n % 3 else "info") for n in range(30)], keep=100)
    wanted = [str(n) for n in range(29, -1, -1) if n % 3]
    seen, query = [], Query(level="error", limit=7)
    while True:
        found = await search(bus.journal, query)
        seen += [one.message for one in found.lines]
        if found.next is None:
            break
        query = query.model_copy(update={"next": found.next})
    assert seen == wanted


async def test_what_arrives_between_pages_moves_none_of_them(bus: EventBus) -> None:
    await bus.journal.append([raw(str(n)) for n in range(4)], keep=100)
    first = await search(bus.journal, Query(limit=2))
    await bus.journal.append([raw("new")], keep=100)
    second = await search(bus.journal, Query(limit=2, next=first.next))
    assert [one.message for one in (*first.lines, *second.lines)] == ["3", "2", "1", "0"]


async def test_a_long_search_says_where_to_go_on(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "PAGE", 10)
    monkeypatch.setattr(log_lines, "MOST_LOOKED_AT", 30)
    await bus.journal.append([raw("wanted"), *(raw("other") for _ in range(50))], keep=100)
    query, lines, answers = Query(contains="wanted"), [], 0
    while True:
        found = await search(bus.journal, query)
        lines += found.lines
        answers += 1
        if found.next is None:
            break
        assert not found.lines
        query = query.model_copy(update={"next": found.next})
    assert (len(lines), answers) == (1, 2)


async def test_since_stops_at_what_is_older(bus: EventBus) -> None:
    now = datetime.now(UTC)
    await bus.journal.append([raw("old", timestamp=(now - timedelta(hours=2)).isoformat())], keep=10)
    await bus.journal.append([raw("new", timestamp=now.isoformat())], keep=10)
    found = await search(bus.journal, Query(since=now - timedelta(hours=1)))
    assert [one.message for one in found.lines] == ["new"]
    assert (await search(bus.journal, Query(since=datetime.min.replace(tzinfo=UTC)))).lines[-1].message == "old"


async def test_what_comes_later_is_told_once_and_in_order(bus: EventBus) -> None:
    await bus.journal.append([raw("0")], keep=100)
    found = await search(bus.journal, Query())
    await bus.journal.append([raw("1"), raw("2", level="error"), raw("3")], keep=100)
    lines, place = await later(bus.journal, Query(), found.newest)
    assert [one.message for one in lines] == ["1", "2", "3"]
    assert await later(bus.journal, Query(), place) == ([], place)
    lines, _ = await later(bus.journal, Query(level="error"), START)
    assert [one.message for one in lines] == ["2"]


async def test_an_empty_journal_has_no_lines_and_nothing_to_go_on_with(bus: EventBus) -> None:
    found = await search(bus.journal, Query())
    assert (found.lines, found.next, found.newest) == ([], None, START)


WRONG: list[dict[str, Any]] = [
    *({"level": "loud"}, {"level": ["info"]}, {"level": None}),
    *({"timestamp": "then"}, {"timestamp": "2026-01-12T03:00"}, {"timestamp": 7}, {"timestamp": None}),
]
FOREIGN = [
    *(b"", b"null", b"[]", b"7", b'"text"', b"{}", b"\xff\xfe", b"{" * 100_000, b"[" * 100_000, b"1" * 5_000),
    *(raw(**wrong).line for wrong in WRONG),
    *(b'{"event": 1, "level": "info", "timestamp": "2026-01-12T03:00Z"}', b'{"level": "info"}'),
    *(raw("\ud800").line, raw(x=["\udfff"]).line, raw(**{"\ud800": "1"}).line),
    *(raw("\ud800").line.replace(rb"\ud800", b"\xed\xa0\x80"), raw("wide").line.decode().encode("utf-16")),
    *(raw(timestamp="0001-01-01T00:00:00+14:00").line, raw(timestamp="9999-12-31T23:59:59-14:00").line),
]


async def test_what_is_no_line_of_ours_is_passed_over(bus: EventBus) -> None:
    await bus.journal.append([*map(Said, FOREIGN), raw("ours"), *map(Said, FOREIGN)], keep=1000)
    for query in (Query(), Query(component="worker", contains="ours", level="info")):
        assert [one.message for one in (await search(bus.journal, query)).lines] == ["ours"]


async def test_what_json_has_no_word_for_is_told_as_text(bus: EventBus) -> None:
    line = raw(x=float("nan"), y=[float("inf")], z="large").line.replace(b'"large"', b"-1e999")
    await bus.journal.append([Said(line)], keep=10)
    (found,) = (await search(bus.journal, Query(contains="nan"))).lines
    assert json.dumps(found.document()["fields"], allow_nan=False) == '{"x": "NaN", "y": ["Infinity"], "z": "-1e999"}'


async def test_warnings_are_found_behind_any_number_of_other_lines(bus: EventBus) -> None:
    await bus.journal.append([raw("wrong", level="error"), raw("odd", level="warning")], keep=10)
    await bus.journal.append([raw("well") for _ in range(10)], keep=10)
    assert {one.message for one in (await search(bus.journal, Query())).lines} == {"well"}
    for level, messages in (("warning", ["odd", "wrong"]), ("error", ["wrong"]), ("critical", [])):
        found = await search(bus.journal, Query.model_validate({"level": level}))
        assert [one.message for one in found.lines] == messages
        forth, _ = await later(bus.journal, Query.model_validate({"level": level}), START)
        assert [one.message for one in forth] == messages[::-1]


def test_the_numbers_in_the_documents_are_those_of_the_code() -> None:
    said = {
        page: " ".join((DOCS / page).read_text().split()) for page in ("http.md", "configuration.md", "operations.md")
    }
    assert f"one answer looks at {log_lines.MOST_LOOKED_AT:,} lines" in said["http.md"]
    assert "`limit` is 1 to 1,000" in said["http.md"]
    assert f"the newest {journal.MOST_WAITING:,} lines in memory" in said["configuration.md"]
    assert f"A line has {journal.MAX_LINE_BYTES // 1024} KiB at most" in said["configuration.md"]
    assert f"the last {Log().keep:,} lines and" in said["operations.md"]
    assert journal.EVERY_SECONDS == 0.5, "docs/configuration.md: twice a second"
