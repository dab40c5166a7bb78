"""`POST /api/v1/logs/query` on a real port."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from eventbus.journal import Said
from registry.settings import Log
from service import logs
from service.gateway.answers import LogLines
from service.journal import ROUTE, keeping_journal
from service.wiring import Runtime


def raw(message: str, **said: Any) -> Said:
    line = {"timestamp": datetime.now(UTC).isoformat(), "level": "info", "logger": "delivery", **said}
    return Said(json.dumps({"event": message, **line}).encode(), line["level"] not in ("debug", "info"))


async def test_the_users_question_is_answered_the_newest_first(runtime: Runtime, rest: httpx.AsyncClient) -> None:
    origin = {"program": "worker", "host": "worker-2", "pid": 41}
    lines = [
        raw("delivered", integration="github", timestamp="2026-01-12T03:04:05.678Z", event_id="e1", **origin),
        raw("delivered", integration="slack", **origin),
        raw("quiet", integration="github", level="debug", **origin),
        raw("not delivered", integration="github", level="warning", error="502", **origin),
    ]
    await runtime.bus.journal.append(lines, keep=100)
    answer = await rest.post(ROUTE, json={"component": "github", "level": "info", "limit": 100})
    assert answer.status_code == 200
    found = answer.json()
    assert [(line["level"], line["message"]) for line in found["lines"]] == [
        ("warning", "not delivered"),
        ("info", "delivered"),
    ]
    assert found["lines"][1] == {
        "time": "2026-01-12T03:04:05.678Z",
        "level": "info",
        "component": "github",
        "message": "delivered",
        "logger": "delivery",
        "program": "worker",
        "host": "worker-2",
        "pid": 41,
        "fields": {"integration": "github", "event_id": "e1"},
    }
    assert found["next"] is None
    LogLines.model_validate(found)


async def test_pages_are_asked_for_with_next(runtime: Runtime, rest: httpx.AsyncClient) -> None:
    await runtime.bus.journal.append([raw(str(number)) for number in range(5)], keep=100)
    first = (await rest.post(ROUTE, json={"limit": 3})).json()
    rest_ = (await rest.post(ROUTE, json={"limit": 3, "next": first["next"]})).json()
    assert [line["message"] for line in first["lines"] + rest_["lines"]] == ["4", "3", "2", "1", "0"]
    assert rest_["next"] is None


async def test_an_event_a_time_and_a_text_narrow_it_down(runtime: Runtime, rest: httpx.AsyncClient) -> None:
    now = datetime.now(UTC)
    old = (now - timedelta(hours=2)).isoformat()
    await runtime.bus.journal.append([raw("old", timestamp=old), raw("new", event_id="e1"), raw("n€w")], keep=100)
    for query, found in (
        ({"event_id": "e1"}, ["new"]),
        ({"since": (now - timedelta(hours=1)).isoformat()}, ["n€w", "new"]),
        ({"contains": "N€"}, ["n€w"]),
        ({}, ["n€w", "new", "old"]),
    ):
        answer = await rest.post(ROUTE, json=query)
        assert [line["message"] for line in answer.json()["lines"]] == found, query


async def test_an_empty_journal_is_an_empty_answer(runtime: Runtime, rest: httpx.AsyncClient) -> None:
    assert (await rest.post(ROUTE, json={})).json() == {"lines": [], "next": None}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"level": "loud"}, "level"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": "100"}, "limit"),
        ({"since": "2026-01-12T09:00"}, "since"),
        ({"next": "1-0 (2-0"}, "next"),
        ({"component": "x" * 201}, "component"),
        ({"levle": "info"}, "levle"),
    ],
)
async def test_what_is_wrong_with_a_question_is_named(
    runtime: Runtime, rest: httpx.AsyncClient, query: dict[str, Any], field: str
) -> None:
    answer = await rest.post(ROUTE, json=query)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]


async def test_an_unknown_level_is_told_the_known_ones(rest: httpx.AsyncClient) -> None:
    answer = await rest.post(ROUTE, json={"level": "loud"})
    assert "'debug', 'info', 'warning', 'error' or 'critical'" in answer.json()["detail"]


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"{", b'{"limit": NaN}', b'{"a": 1, "a": 2}'])
async def test_a_body_that_is_no_object_is_refused(rest: httpx.AsyncClient, body: bytes) -> None:
    answer = await rest.post(ROUTE, content=body)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("text", ["\x00", "{0} %s", "\u202e", "]] return", "\x1b[2J", "{eventbus:main:0}:log"])
async def test_hostile_text_finds_nothing_and_harms_nothing(
    runtime: Runtime, rest: httpx.AsyncClient, text: str
) -> None:
    await runtime.bus.journal.append([raw("said")], keep=100)
    for field in ("component", "contains", "event_id"):
        answer = await rest.post(ROUTE, json={field: text})
        assert (answer.status_code, answer.json()["lines"]) == (200, []), field


async def test_without_a_key_nobody_reads_a_line(runtime: Runtime, http: httpx.AsyncClient) -> None:
    await runtime.bus.journal.append([raw("said")], keep=100)
    for headers in ({}, {"X-API-Key": "a wrong one"}):
        answer = await http.post(ROUTE, json={}, headers=headers)
        assert answer.status_code == 401
        assert "said" not in answer.text
    assert (await http.get(ROUTE)).status_code == 405


async def test_where_the_settings_keep_none_that_is_said(runtime: Runtime, rest: httpx.AsyncClient) -> None:
    object.__setattr__(runtime, "settings", runtime.settings.model_copy(update={"log": Log(keep=0)}))
    answer = await rest.post(ROUTE, json={})
    assert answer.status_code == 404
    assert "log.keep is 0" in answer.json()["detail"]


async def test_a_redis_that_is_away_is_503(
    open_gateway: Callable[..., AbstractAsyncContextManager[Any]], key: str
) -> None:
    async with open_gateway(url="redis://127.0.0.1:1/0") as (_, http):
        answer = await http.post(ROUTE, json={}, headers={"X-API-Key": key})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_asking_again_and_again_is_not_in_the_answer(runtime: Runtime, rest: httpx.AsyncClient) -> None:

    logs.configure("info", "json")
    async with keeping_journal(runtime.bus, runtime.settings):
        for _ in range(5):
            assert (await rest.post(ROUTE, json={})).status_code == 200
        await rest.get("/livez")
        await rest.get("/api/v1/integrations")
    found = (await rest.post(ROUTE, json={"component": "service.gateway"})).json()
    assert [line["fields"]["route"] for line in found["lines"]] == ["/api/v1/integrations"]
