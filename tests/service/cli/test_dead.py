"""`eventbus dead`: the real commands on a real Redis, for people, for cron and for machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventbus import EventBus
from eventbus.redis.keys import ShardKeys
from tests.service.cli.conftest import Desk
from tests.service.cli.terminal import Terminal, eventbus, on_a_terminal

LONG = "no such region: " + "x" * 200


@pytest.fixture
def letters(desk: Desk) -> list[str]:
    """Three of slack, of two problems, and one of github with a long name; their ids, oldest first."""
    for n in range(2):
        desk.publish("vm.created", vm_id=str(n), vm_name="my-vm")
    desk.serve("slack", "vm.*", refuse="channel_not_found")
    desk.publish("vm.created", vm_id="\x1b[2J")
    desk.serve("slack", "vm.*", refuse=LONG)
    desk.publish("task.failed", task_id="1", name="nightly", error="boom")
    desk.serve("github.issues-of-acme", "task.*", refuse="404\nNot Found")
    return desk.dead()


# -- list --------------------------------------------------------------------------------------------------------------


def test_dead_letters_are_listed_a_line_each_the_newest_last(letters: list[str]) -> None:
    done = eventbus("dead", "list")
    assert done.exit_code == 0
    heading, *rows, empty, total, most = done.stdout.splitlines()
    assert heading.split() == ["ID", "AGE", "GROUP", "TOPIC", "EVENT", "ATTEMPTS", "REASON", "ERROR"]
    assert [row.split()[0] for row in rows] == letters
    assert rows[0].endswith("  1         rejected  channel_not_found")
    assert rows[2].endswith("x...")
    assert rows[3].endswith("rejected  404 Not Found")
    assert (empty, total) == ("", "4 dead letters, 3 problems")
    assert most == "most (2): slack: channel_not_found"


def test_ten_identical_errors_are_one_problem(letters: list[str]) -> None:
    rows = [line.split() for line in eventbus("dead", "list", "--by", "problem").stdout.splitlines()]
    assert rows[0] == ["COUNT", "FIRST", "LAST", "GROUP", "REASON", "NEWEST", "ERROR"]
    assert (rows[1][0], rows[1][-4:]) == ("2", ["slack", "rejected", letters[1], "channel_not_found"])
    assert sorted(row[0] for row in rows[2:4]) == ["1", "1"]
    assert rows[-1] == ["4", "dead", "letters,", "3", "problems"]


def test_all_are_counted_though_few_are_shown(letters: list[str]) -> None:
    lines = eventbus("dead", "list", "--limit", "1").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:2]] == letters[3:]
    assert lines[3] == "4 dead letters (the newest 1 are shown), 3 problems"
    found = json.loads(eventbus("dead", "list", "--limit", "1", "--json").stdout)
    assert (found["count"], len(found["letters"]), len(found["problems"])) == (4, 1, 3)


def test_as_json_there_are_letters_and_problems(letters: list[str]) -> None:
    found = json.loads(eventbus("dead", "list", "--json").stdout)
    assert sorted(found) == ["count", "letters", "problems"]
    assert [one["id"] for one in found["letters"]] == letters
    names = ["attempts", "error", "event_id", "group", "id", "key", "reason", "retired", "time", "topic"]
    assert sorted(found["letters"][0]) == names
    problem = found["problems"][0]
    assert (problem["count"], problem["group"], problem["error"]) == (2, "slack", "channel_not_found")
    assert (problem["first"], problem["example"]) == (found["letters"][0]["time"], letters[1])


@pytest.mark.parametrize(
    ("filters", "which"),
    [
        (["--group", "slack"], [0, 1, 2]),
        (["--group", "slack", "--group", "github.issues-of-acme"], [0, 1, 2, 3]),
        (["--topic", "task.>"], [3]),
        (["--text", "CHANNEL_not"], [0, 1]),
        (["--since", "1h"], [0, 1, 2, 3]),
        (["--until", "1h"], []),
        (["--reason", "poison"], []),
        (["--reason", "rejected", "--reason", "poison", "--topic", "vm.*", "--text", "region"], [2]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_filters_narrow_the_list_and_nothing_is_exit_code_3(
    letters: list[str], filters: list[str], which: list[int]
) -> None:
    done = eventbus("dead", "list", "--json", *filters)
    assert [one["id"] for one in json.loads(done.stdout)["letters"]] == [letters[n] for n in which]
    assert (done.exit_code, done.stderr) == ((0, "") if which else (3, "no dead letter fits\n"))


@pytest.mark.parametrize("option", [["--reason", "unlucky"], ["--since", "soon"], ["--topic", "Vm.*"]])
def test_a_filter_that_is_none_is_a_usage_error(desk: Desk, option: list[str]) -> None:
    assert eventbus("dead", "list", *option).exit_code == 2


@pytest.mark.parametrize(("columns", "by"), [(80, "letter"), (120, "letter"), (120, "problem")])
def test_on_a_terminal_nothing_is_wider_than_it_and_ids_are_whole(letters: list[str], columns: int, by: str) -> None:
    shown = on_a_terminal(columns, "dead", "list", "--by", by)
    assert max(map(len, shown.splitlines())) <= columns
    assert "404 Not Found" in shown
    for letter_id in letters if by == "letter" else letters[1:3]:
        assert f"{letter_id} " in shown or f"{letter_id}\n" in shown


def test_a_terminal_that_is_narrow_is_shown_less_rather_than_a_part_of_an_id(letters: list[str]) -> None:
    shown = on_a_terminal(60, "dead", "list", "--by", "problem")
    assert max(map(len, shown.splitlines())) <= 60
    assert shown.splitlines()[0].split() == ["COUNT", "FIRST", "LAST", "GROUP", "REASON"]


# -- show --------------------------------------------------------------------------------------------------------------


def test_one_is_shown_with_everything_and_what_can_be_done(letters: list[str]) -> None:
    shown = eventbus("dead", "show", letters[3]).stdout
    facts = dict(line.split("  ", 1) for line in shown.partition("\n\n")[0].splitlines() if line[0] != " ")
    assert facts["dead letter"].strip() == letters[3]
    assert facts["reason"].strip() == "rejected, 1 attempt"
    assert facts["key"].strip() == "task_id:1"
    assert "404\n" in shown
    assert "\n                 Not Found\n" in shown, "an error keeps its lines"
    payload = shown.partition("Payload:\n")[2].partition("\n\n")[0]
    assert json.loads(payload)["error"] == "boom"
    assert shown.endswith(
        f"send it again: eventbus dead redrive {letters[3]}\ndelete it:     eventbus dead drop {letters[3]}\n"
    )


def test_what_an_event_brings_can_not_drive_the_terminal(letters: list[str]) -> None:
    terminal = Terminal(80, "dead", "show", letters[2])
    terminal.until("dead drop")
    assert "\x1b[2J" not in terminal.shown
    assert terminal.end() == 0
    assert r"\u001b[2J" in terminal.shown


def test_as_json_the_event_is_a_cloudevent(letters: list[str]) -> None:
    found = json.loads(eventbus("dead", "show", letters[0], "--json").stdout)
    assert (found["id"], found["unreadable"]) == (letters[0], None)
    assert (found["event"]["type"], found["event"]["id"]) == ("vm.created", found["event_id"])
    assert found["event"]["data"]["vm_name"] == "my-vm"


def test_one_that_can_not_be_read_is_shown_as_it_is_stored(desk: Desk) -> None:
    fields = ("entry", "7-0", "reason", "invalid", "error", "no", "attempts", 1)

    async def bury(bus: EventBus) -> list[str]:
        dead = ShardKeys().dead("g")
        for more in (("t", "vm.created", "k", "", "s", 3, "e", '{"id":"x","data":{}}\x1b[2J'), ()):
            await bus._connection.do("XADD", dead, "*", *fields, *more)
        return [letter.id async for letter in bus.dead.find(groups=["g"])]

    unfit, without = desk.do(bury)
    shown = eventbus("dead", "show", unfit).stdout
    assert "can't be read  vm.created: " in shown
    assert 'As it is stored:\n{"id":"x","data":{}}?[2J\n' in shown
    assert f"eventbus dead redrive {unfit} --data @CORRECTED.json\n" in shown
    shown = eventbus("dead", "show", without).stdout
    assert "was deleted from the log before the letter was written" in shown
    assert "redrive" not in shown
    found = json.loads(eventbus("dead", "show", unfit, "--json").stdout)
    assert (found["event"], found["wire"][:9]) == (None, '{"id":"x"')


@pytest.mark.parametrize("command", [["show"], ["redrive"], ["drop", "--yes"]], ids=lambda words: words[0])
@pytest.mark.parametrize("letter_id", ["slack/1-1", "nonsense"])
def test_one_that_is_not_there_is_exit_code_3(desk: Desk, command: list[str], letter_id: str) -> None:
    done = eventbus("dead", *command, letter_id)
    assert done.exit_code == 3
    assert done.stderr.startswith(f"there is no dead letter {letter_id}")


# -- redrive -----------------------------------------------------------------------------------------------------------


def test_named_letters_are_delivered_again(desk: Desk, letters: list[str]) -> None:
    done = eventbus("dead", "redrive", letters[0], letters[3], letters[0])
    assert (done.exit_code, done.stdout) == (0, "2 dead letters redriven\n")
    assert [event.data.vm_id for event in desk.serve("slack", "vm.*")] == ["0"]
    assert [event.data.name for event in desk.serve("github.issues-of-acme", "task.*")] == ["nightly"]
    assert desk.dead() == letters[1:3]


def test_filtered_letters_are_delivered_again_when_somebody_says_yes(desk: Desk, letters: list[str]) -> None:
    asked = ["dead", "redrive", "--group", "slack", "--text", "channel_not_found"]
    refused = eventbus(*asked)
    assert refused.exit_code == 2
    assert "nobody can be asked without a terminal: add --yes" in refused.stderr
    assert desk.dead() == letters
    assert eventbus(*asked, "--yes").stdout == "2 dead letters redriven\n"
    assert desk.dead() == letters[2:]
    assert json.loads(eventbus("dead", "redrive", "--all", "--yes", "--json").stdout) == {
        "redriven": 2,
        "gone": 0,
        "failed": {},
    }
    assert eventbus("dead", "redrive", "--all", "--yes").exit_code == 3


def test_a_dry_run_says_how_many_and_changes_nothing(desk: Desk, letters: list[str]) -> None:
    for command in ("redrive", "drop"):
        done = eventbus("dead", command, "--all", "--dry-run")
        verb = {"redrive": "redriven", "drop": "dropped"}[command]
        assert done.stdout == f"4 dead letters (slack 3, github.issues-of-acme 1) would be {verb}\n"
        assert json.loads(eventbus("dead", command, "--all", "--dry-run", "--json").stdout)["ids"] == letters
    assert desk.dead() == letters


@pytest.mark.parametrize(
    "arguments",
    [
        ["redrive"],
        ["drop"],
        ["drop", "--yes"],
        ["redrive", "g/1-1", "--all"],
        ["drop", "g/1-1", "--group", "g"],
        ["redrive", "--all", "--data", "{}", "--yes"],
        ["redrive", "g/1-1", "g/1-2", "--data", "{}"],
        ["redrive", "g/1-1", "--data", "[]"],
        ["redrive", "g/1-1", "--data", "{"],
        ["redrive", "g/1-1", "--data", "@no/such/file"],
        ["redrive", "g/1-1", "--rate", "0"],
    ],
    ids=" ".join,
)
def test_which_ones_and_with_what_is_said_in_one_way_only(desk: Desk, arguments: list[str]) -> None:
    done = eventbus("dead", *arguments)
    assert done.exit_code == 2
    assert "error" in done.stderr.lower()


@pytest.mark.parametrize("how", ["argument", "file", "standard input"])
def test_another_payload_may_be_given(desk: Desk, letters: list[str], how: str, tmp_path: Path) -> None:
    text = '{"vm_id": "7", "vcpus": 8}'
    (tmp_path / "data.json").write_text(text)
    data = {"argument": text, "file": f"@{tmp_path}/data.json", "standard input": "-"}[how]
    done = eventbus("dead", "redrive", letters[0], "--data", data, stdin=text)
    assert (done.exit_code, done.output) == (0, "1 dead letter redriven\n")
    (event,) = desk.serve("slack", "vm.*")
    assert (event.data.vm_id, event.data.vcpus, event.key) == ("7", 8, "vm_id:0")


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_payload_that_does_not_fit_is_refused_by_field(desk: Desk, letters: list[str], more: list[str]) -> None:
    done = eventbus("dead", "redrive", letters[0], "--data", '{"vcpus": 0}', *more)
    assert done.exit_code == 1
    assert "error: vm.created: vm_id: field required; vcpus: input should be greater" in done.stderr
    assert desk.dead() == letters


def test_one_that_can_not_be_sent_stops_no_other_and_is_exit_code_1(desk: Desk, letters: list[str]) -> None:
    desk.do(lambda bus: bus.retire("github.issues-of-acme", 1_000))
    done = eventbus("dead", "redrive", letters[3], letters[0])
    assert (done.exit_code, done.stdout) == (1, "1 dead letter redriven\n")
    assert f"not redriven: {letters[3]}: group github.issues-of-acme is retired" in done.stderr
    assert desk.dead("github.issues-of-acme") == [letters[3]]


def test_those_of_a_retired_group_are_marked_left_out_of_what_is_sent_and_dropped(
    desk: Desk, letters: list[str]
) -> None:
    desk.do(lambda bus: bus.retire("github.issues-of-acme", 1_000))
    assert eventbus("dead", "list").stdout.count("github.issues-of-acme (retired)") == 1
    assert "(retired)" in eventbus("dead", "show", letters[3]).stdout
    assert json.loads(eventbus("dead", "list", "--json").stdout)["letters"][3]["retired"] is True
    done = eventbus("dead", "redrive", "--all", "--yes")
    assert (done.exit_code, done.stdout) == (0, "3 dead letters redriven\n")
    assert "left out: 1 dead letter (github.issues-of-acme 1) of retired groups" in done.stderr
    assert eventbus("dead", "redrive", "--all", "--yes").exit_code == 3
    assert eventbus("dead", "drop", "--all", "--yes").stdout == "1 dead letter dropped\n"
    assert eventbus("dead", "list").exit_code == 3


def test_a_terminal_is_asked_with_the_count_and_no_is_no(desk: Desk, letters: list[str]) -> None:
    for answer, code, left in (("n\n", 1, letters), ("y\n", 0, letters[2:])):
        terminal = Terminal(80, "dead", "redrive", "--text", "channel_not_found")
        terminal.until("Redrive 2 dead letters (slack 2)? [y/N]:")
        terminal.type(answer)
        assert terminal.end() == code
        assert desk.dead() == left
    assert terminal.shown.endswith("2 dead letters redriven\n")


# -- drop --------------------------------------------------------------------------------------------------------------


def test_dropped_letters_are_gone_for_good(desk: Desk, letters: list[str]) -> None:
    assert eventbus("dead", "drop", letters[1]).exit_code == 2, "even a named one is asked for"
    assert eventbus("dead", "drop", letters[1], "--yes").stdout == "1 dead letter dropped\n"
    assert eventbus("dead", "drop", "--topic", "task.*", "--yes").stdout == "1 dead letter dropped\n"
    assert desk.dead() == [letters[0], letters[2]]
    assert desk.serve("slack", "vm.*") == []


def test_a_terminal_is_asked_before_a_drop(desk: Desk, letters: list[str]) -> None:
    terminal = Terminal(80, "dead", "drop", "--all")
    terminal.until("Drop 4 dead letters (slack 3, github.issues-of-acme 1) for good? [y/N]:")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert desk.dead() == []
