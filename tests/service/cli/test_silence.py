"""`eventbus silence`: made, listed, ended; refused where its condition or its times can't work."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from registry.noise.store import NoiseStore
from registry.routes.model import Routing
from tests.service.cli.conftest import Desk
from tests.service.cli.terminal import eventbus

STAGING = 'data.environment == "staging"'


def add(*more: str, condition: str = STAGING) -> dict[str, Any]:
    done = eventbus("silence", "add", condition, "--for", "2h", "--comment", "load test", "--json", *more)
    assert done.exit_code == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def listed(*more: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(eventbus("silence", "list", "--json", *more).stdout)
    return found


def test_a_silence_holds_from_now_for_as_long_as_it_says(desk: Desk) -> None:
    made = add("--by", "ada")
    assert (made["when"], made["by"], made["comment"], made["stand"]) == (STAGING, "ada", "load test", "active")
    length = datetime.fromisoformat(made["ends"]) - datetime.fromisoformat(made["starts"])
    assert length == timedelta(hours=2)
    assert listed() == [made]


def test_workers_see_it(desk: Desk) -> None:
    made = add()

    async def seen(bus: Any) -> str:
        mutes = await NoiseStore(bus, Routing()).mutes()
        names = {"topic": "t", "event": {}, "data": {"environment": "staging"}}
        return mutes.why(names, datetime.now(UTC))

    assert desk.do(seen).startswith(f"muted by silence {made['id']} (")


def test_a_silence_may_begin_later(desk: Desk) -> None:
    made = add("--at", "2126-01-12T22:00Z")
    assert (made["stand"], made["ends"]) == ("pending", "2126-01-13T00:00:00Z")


def test_an_ended_silence_is_kept_for_who_looks_for_it(desk: Desk) -> None:
    first, second = add(), add(condition='to == "pagerduty"')
    ended = eventbus("silence", "expire", first["id"])
    assert (ended.exit_code, ended.stdout) == (0, "1 silence ended\n")
    assert [one["id"] for one in listed()] == [second["id"]]
    assert {one["id"]: one["stand"] for one in listed("--all")} == {first["id"]: "expired", second["id"]: "active"}


def test_what_does_not_hold_can_t_be_ended(desk: Desk) -> None:
    made = add()
    assert eventbus("silence", "expire", made["id"], "nope").exit_code == 3
    again = eventbus("silence", "expire", made["id"])
    assert (again.exit_code, made["id"] in again.stderr) == (3, True)


def test_people_get_a_table(desk: Desk) -> None:
    assert eventbus("silence", "list").stdout == "there is no silence\n"
    made = add("--by", "ada")
    head, row = eventbus("silence", "list").stdout.splitlines()
    assert head.split() == ["ID", "STAND", "FROM", "UNTIL", "BY", "CONDITION", "COMMENT"]
    assert row.split()[:2] == [made["id"], "active"]
    assert STAGING in row


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("labels.team == 'a'", "the condition labels.team == 'a': there is no 'labels'; there is: topic, event, data"),
        ("data.environment ==", "unexpected"),
        ("data.a == 1\nand data.b | uper == 2", "line 2: there is no filter 'uper', did you mean upper?"),
    ],
)
def test_a_wrong_condition_is_refused_at_once_with_the_place_of_the_fault(condition: str, said: str) -> None:
    done = eventbus("silence", "add", condition, "--for", "2h", "--comment", "x", "--url", "redis://127.0.0.1:1/0")
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_silence_that_would_be_over_is_refused() -> None:
    done = eventbus(
        *("silence", "add", "true", "--for", "2h", "--comment", "x", "--at", "2020-01-01T00:00Z"),
        *("--url", "redis://127.0.0.1:1/0"),
    )
    assert (done.exit_code, "it would end before now" in done.stderr) == (2, True)


@pytest.mark.parametrize("command", [("list",), ("expire", "x"), ("add", "true", "--for", "1h", "--comment", "x")])
def test_without_redis_it_is_exit_code_5(command: tuple[str, ...]) -> None:
    assert eventbus("silence", *command, "--url", "redis://127.0.0.1:1/0").exit_code == 5
