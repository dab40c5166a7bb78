"""`eventbus replay`: history again, by the real command on a real Redis."""

from __future__ import annotations

import json

import pytest

from eventbus import EventBus
from tests.service.cli.conftest import Desk
from tests.service.cli.terminal import eventbus, on_a_terminal


@pytest.fixture
def handled(desk: Desk) -> Desk:
    """A group `index` of vm.* that has handled two of three events."""
    desk.publish("vm.created", vm_id="1")
    desk.publish("task.started", task_id="1", name="nightly")
    desk.publish("vm.created", vm_id="2")
    desk.serve("index", "vm.*")
    return desk


def test_a_group_is_given_its_history_again(handled: Desk) -> None:
    done = eventbus("replay", "--group", "index", "--since", "1h")
    assert (done.exit_code, done.stdout) == (0, "2 events of 3 looked at will be given to index again\n")
    assert [event.data.vm_id for event in handled.serve("index", "vm.*")] == ["1", "2"]


def test_a_dry_run_counts_and_changes_nothing(handled: Desk) -> None:
    done = eventbus("replay", "--group", "index", "--since", "1h", "--pattern", "task.>", "--dry-run")
    assert (done.exit_code, done.stdout) == (0, "at most 1 event of 3 looked at would be given to index again\n")
    assert handled.serve("index", "vm.*") == []


def test_since_before_the_log_begins_is_warned_of(handled: Desk) -> None:
    warned = eventbus("replay", "--group", "index", "--since", "1h", "--dry-run").stderr
    assert warned.startswith("warning: the log begins at 2")
    assert warned.endswith(": nothing older is left in it\n")
    begins = json.loads(eventbus("replay", "--group", "index", "--since", "1h", "--dry-run", "--json").stdout)
    assert eventbus("replay", "--group", "index", "--since", begins["log_begins"], "--dry-run").stderr == ""


def test_as_json_it_is_numbers_and_times(handled: Desk) -> None:
    done = json.loads(eventbus("replay", "--group", "index", "--since", "1h", "--until", "0s", "--json").stdout)
    assert sorted(done) == ["copied", "dry_run", "group", "log_begins", "looked_at", "missed", "reached", "since"]
    assert (done["copied"], done["looked_at"], done["missed"], done["dry_run"]) == (2, 3, 0, False)


def test_an_unknown_group_is_exit_code_3_naming_those_that_are(handled: Desk) -> None:
    done = eventbus("replay", "--group", "indexx", "--since", "1h")
    assert (done.exit_code, done.stderr) == (3, "no group 'indexx' is declared; declared: index\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--group", "g"],
        ["--since", "1h"],
        ["--group", "g", "--since", "1h", "--until", "2h"],
        ["--group", "index", "--since", "1h", "--pattern", "Vm.*"],
        ["--group", "index", "--since", "1h", "--rate", "none"],
    ],
    ids=" ".join,
)
def test_a_range_that_is_none_is_a_usage_error(handled: Desk, arguments: list[str]) -> None:
    assert eventbus("replay", *arguments).exit_code == 2


def test_a_replay_that_is_broken_off_says_how_far_it_came(handled: Desk) -> None:
    async def squeeze(bus: EventBus) -> None:
        await bus._connection.do("CONFIG", "SET", "maxmemory", 1)

    handled.do(squeeze)
    done = eventbus("replay", "--group", "index", "--since", "1h")
    assert done.exit_code == 1
    assert "has no memory left for new events" in done.stderr


def test_on_a_terminal_there_is_a_bar_and_then_the_sum(handled: Desk) -> None:
    shown = on_a_terminal(80, "replay", "--group", "index", "--since", "1h", "--rate", "1/s")
    assert "replaying to index" in shown
    assert "2 events of 3 looked at will be given to index again\n" in shown
