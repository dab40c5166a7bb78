"""What the programs write about themselves: one line an event, whatever stands in it, and no library's chatter."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from service import logs

FORGED = "ok\n12:00:00 [info] forged\r\x1b[2J\x9b31m\u202e\u2028end"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    written = capsys.readouterr()
    assert written.out == "", "standard output is for results"
    return [json.loads(line) for line in written.err.splitlines()]


def test_a_line_is_json_with_time_level_logger_and_what_was_bound(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logs.bind(program="worker")
    structlog.get_logger("registry").info("ready", integration="slack")
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "ready",
        "integration": "slack",
        "level": "info",
        "logger": "registry",
        "program": "worker",
    }


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_value_can_forge_a_line_or_drive_the_terminal(capsys: pytest.CaptureFixture[str], style: Any) -> None:
    logs.configure("info", style, colors=False)
    structlog.get_logger("registry").warning(FORGED, text=FORGED, deep={"a": [FORGED]})
    logging.getLogger("some.library").warning("said %s", FORGED)
    written = capsys.readouterr().err
    assert written.count("\n") == 2
    assert not [c for c in "\r\x1b\x9b\u202e\u2028" if c in written]
    assert "forged" in written, "it is escaped, not lost"


def test_libraries_are_heard_from_warnings_on(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "json")
    for name in ("httpx", "slack_sdk.web.async_client", "urllib3"):
        logging.getLogger(name).info("POST https://hooks.example.com/secret")
        logging.getLogger(name).warning("is slow")
    structlog.get_logger("eventbus.consumer").debug("ours")
    assert [line["event"] for line in lines(capsys)] == ["is slow", "is slow", "is slow", "ours"]


def test_the_level_is_that_of_our_own_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("error", "json")
    structlog.get_logger("delivery").warning("not delivered")
    structlog.get_logger("delivery").error("dead letter")
    assert [line["event"] for line in lines(capsys)] == ["dead letter"]


def test_a_value_without_end_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.get_logger("delivery").info("delivered", detail="x" * 1_000_000)
    (line,) = lines(capsys)
    assert len(line["detail"]) == logs.MAX_VALUE_CHARACTERS + len("...")


def test_it_is_json_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "auto")
    structlog.get_logger("service").info("working")
    assert [line["event"] for line in lines(capsys)] == ["working"]
