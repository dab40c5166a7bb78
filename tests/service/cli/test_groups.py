"""`eventbus groups`: who subscribes, how they stand, and the end of a subscription, on a real Redis."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from eventbus import EventBus
from tests.service.cli.conftest import Desk
from tests.service.cli.terminal import eventbus, on_a_terminal

LEASE = timedelta(minutes=1)


@pytest.fixture
def standing(desk: Desk) -> Desk:
    """`slack` with one event done, one dead, one held by a living worker; `old-hook` with all three unread."""
    desk.declare("old-hook", ">")
    desk.publish("vm.created", vm_id="1")
    desk.serve("slack", "vm.*", "github.>")
    desk.publish("vm.created", vm_id="2")
    desk.serve("slack", "vm.*", "github.>", refuse="no")
    desk.publish("vm.created", vm_id="3")

    async def take(bus: EventBus) -> None:
        taken = await bus._shard.take("slack", "worker-1", 10, lease=LEASE, suspects=True, ordered=True)
        assert len(taken.taken) == 1

    desk.do(take)
    return desk


def test_each_group_is_a_line_with_a_column_for_each_number(standing: Desk) -> None:
    done = eventbus("groups", "list")
    assert done.exit_code == 0
    heading, hook, slack = done.stdout.splitlines()
    names = ["UNREAD", "RUNNING", "WAITING", "DUE", "READY", "DEAD", "PAUSED", "OLDEST", "WORKERS", "STATE"]
    assert heading.split() == ["GROUP", "PATTERNS", *names]
    columns = hook.split()
    assert [*columns[:9], columns[-2]] == ["old-hook", ">", "4", "0", "0", "0", "0", "0", "-", "none"]
    columns = slack.split()
    assert [*columns[:10], columns[-2]] == ["slack", "vm.*", "github.>", "0", "1", "0", "0", "0", "1", "-", "1"]


def test_as_json_each_consumer_is_told(standing: Desk) -> None:
    hook, slack = json.loads(eventbus("groups", "list", "--json").stdout)
    assert (hook["group"], hook["left"], hook["declared"], hook["has_place"]) == ("old-hook", 4, True, True)
    assert slack["backlog"]["running"] == 1
    assert {"name": "worker-1", "is_alive": True, "holds": 1} in slack["consumers"]


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_what_is_not_nothing_is_told_in_words(standing: Desk, columns: int) -> None:
    shown = on_a_terminal(columns, "groups", "list")
    assert max(map(len, shown.splitlines())) <= columns
    assert "\n  >: 4 unread\n" in shown
    assert "\n  vm.* github.>: 1 running\n" in shown


def test_what_is_wrong_with_a_group_is_said(standing: Desk) -> None:
    async def spoil(bus: EventBus) -> None:
        keys = bus._shard.keys
        await bus._connection.do("XGROUP", "DESTROY", keys.log, "old-hook")
        await bus._connection.do("XGROUP", "CREATE", keys.log, "stranger", "$")

    standing.do(spoil)
    hook, slack, stranger = eventbus("groups", "list").stdout.splitlines()[1:4]
    rows = "\n".join(sorted([hook, slack, stranger]))
    assert "no place in the log: start a worker that serves it" in rows
    assert "not declared: not of this bus, and trimming waits for it" in rows


def test_without_groups_it_says_so(desk: Desk) -> None:
    done = eventbus("groups", "list")
    assert (done.exit_code, done.stdout) == (0, "no group is declared\n")
    assert json.loads(eventbus("groups", "list", "--json").stdout) == []


# -- retire ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--drop-backlog", "3"], ["--drop-backlog", "5"]], ids=" ".join)
def test_a_backlog_that_was_not_agreed_to_is_shown_and_nothing_is_changed(standing: Desk, more: list[str]) -> None:
    done = eventbus("groups", "retire", "old-hook", *more)
    assert done.exit_code == 4
    assert done.stderr.startswith("error: old-hook has 4 deliveries that are not handled")
    assert "eventbus groups retire old-hook --drop-backlog 4\n" in done.stderr
    assert "old-hook" in standing.do(lambda bus: bus.groups())


def test_with_its_backlog_agreed_to_a_group_is_retired(standing: Desk) -> None:
    done = eventbus("groups", "retire", "old-hook", "--drop-backlog", "4")
    assert (done.exit_code, done.stdout) == (0, "old-hook is retired; not handled and dropped with it: 4\n")
    assert list(standing.do(lambda bus: bus.groups())) == ["slack"]
    again = eventbus("groups", "retire", "old-hook", "--drop-backlog", "4")
    assert (again.exit_code, again.stderr) == (3, "no group old-hook is declared; see: eventbus groups list\n")


def test_a_group_that_is_served_is_not_retired(standing: Desk) -> None:
    done = eventbus("groups", "retire", "slack", "--drop-backlog", "1")
    assert done.exit_code == 4
    assert "slack is served by 1 worker, which would declare it again" in done.stderr
    assert "slack" in standing.do(lambda bus: bus.groups())


def test_where_its_dead_letters_are_is_said(standing: Desk) -> None:
    standing.do(lambda bus: bus._shard.beat(["worker-1"], timedelta()))  # good-bye
    done = eventbus("groups", "retire", "slack", "--drop-backlog", "1")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.endswith("\ndead letters that stay: 1; see: eventbus dead list --group slack\n")
    assert len(standing.dead("slack")) == 1
