"""The comparison with other frameworks: what is counted, and that each gets the same work. None of them is run here."""

from __future__ import annotations

from itertools import count as numbers
from pathlib import Path
from typing import Any

import pytest

from tests.faults.checker import Effect, Fault
from tests.faults.history import rows
from tests.faults.peers import work
from tests.faults.peers.count import count, is_done

Line = dict[str, Any]


def sends(name: str, number: int, *phases: str) -> list[Line]:
    """One publish call for each phase in which it ended."""
    lines = []
    for call, phase in zip(numbers(number * 10), phases, strict=False):
        base = {"op": "publish", "t": 1.0 + number, "pid": 1, "name": "p0", "call": call}
        lines.append({**base, "phase": "invoke", "events": [[name, "k", work.TOPIC, "do", 0]]})
        lines.append({**base, "phase": phase, "receipts": [[name, "stored", number]]})
    return lines


def begins(name: str, at: float, pid: int = 7) -> Line:
    """A handler begins."""
    return {"op": "begin", "t": at, "pid": pid, "group": work.GROUP, "event": name, "attempt": 1}


def effect(name: str, number: int, at: float = 5.0) -> Effect:
    """What the receiver saw."""
    return Effect(name, "k", number, work.GROUP, 1, 7, at)


def test_accepted_without_an_effect_is_lost() -> None:
    history = sends("a", 1, "ok") + sends("b", 2, "ok")
    assert count(history, [effect("a", 1)], []).lost == 1
    assert not is_done(history, [effect("a", 1)])
    assert is_done(history, [effect("a", 1), effect("b", 2)])


def test_what_was_never_accepted_is_not_lost() -> None:
    history = sends("a", 1, "info")
    assert count(history, [], []).lost == 0
    assert is_done(history, [])


def test_more_than_one_effect_is_counted_once_and_ascribed_to_the_publisher_who_sent_it_again() -> None:
    history = sends("a", 1, "info", "ok") + sends("b", 2, "ok")
    found = count(history, [effect("a", 1), effect("a", 1), effect("a", 1), effect("b", 2), effect("b", 2)], [])
    assert (found.done_again, found.of_these_published_again, found.published_again) == (2, 1, 1)


def test_a_first_effect_behind_that_of_a_later_event_of_its_key_is_out_of_order() -> None:
    history = sends("a", 1, "ok") + sends("b", 2, "ok") + sends("c", 3, "ok")
    assert count(history, [effect("b", 2), effect("a", 1), effect("c", 3)], []).out_of_order == 1
    assert count(history, [effect("a", 1), effect("b", 2), effect("a", 1), effect("c", 3)], []).out_of_order == 0


def test_recovery_from_the_loss_of_a_worker_ends_with_the_last_effect_of_what_it_had_in_hand() -> None:
    history = [*sends("a", 1, "ok"), begins("a", 2.5), begins("a", 8.0, pid=8)]
    found = count(history, [effect("a", 1, at=8.5)], [Fault("kill worker", 7, 3.0, 3.0)])
    assert found.recovery == {"kill worker": [5.5]}
    assert found.faults == {"kill worker": 1}


def settings(folder: Path, events: int = 300) -> work.Settings:
    """Of a publisher."""
    return work.Settings("p0", "redis://nowhere", "", str(folder), 7, events, 1e9, 5)


def test_the_same_seed_gives_every_framework_the_same_events(tmp_path: Path) -> None:
    given = settings(tmp_path)
    events = [work.planned(given, number) for number in range(given.events)]
    assert events == [work.planned(given, number) for number in range(given.events)]
    assert {event["plan"] for event in events} == set(work.PLANS)
    assert len({event["key"] for event in events}) == given.keys


async def test_a_publisher_sends_an_event_again_until_it_is_accepted_and_goes_on_where_it_was(tmp_path: Path) -> None:
    given = settings(tmp_path, events=3)
    given.history.touch()
    sent: list[str] = []

    async def send(event: dict[str, Any]) -> None:
        sent.append(event["name"])
        if sent == ["p0-0", "p0-1"]:
            raise ConnectionError("reset")
        if sent[-1] == "p0-2":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await work.publish(given, send)
    assert sent == ["p0-0", "p0-1", "p0-1", "p0-2"]
    phases = [line["phase"] for line in rows(given.history)]
    assert phases == ["invoke", "ok", "invoke", "info", "invoke", "ok", "invoke"]

    async def send_all(event: dict[str, Any]) -> None:
        sent.append(event["name"])

    await work.publish(given, send_all)
    assert sent[4:] == ["p0-2"]
