"""The command line: what it prints, for people and for machines, and how it ends.

In this process through click's runner where nothing but text is at stake; as a process of its own where pipes,
terminals or a Redis are.
"""

from __future__ import annotations

import asyncio
import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from eventbus import EventBus, Payload, SyncPublisher, catalog
from eventbus.redis.embedded import EmbeddedRedis
from eventbus.redis.guardian import ask
from service.cli import main

NOBODY_LISTENS = "redis://127.0.0.1:1/0"
CANARY = "hunter2-canary"


def eventbus(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, arguments, input=stdin)


def program(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-m", "service", *arguments], **(pipes | options))  # type: ignore[call-overload, no-any-return]


def written(folder: Path, text: str) -> str:
    path = folder / "eventbus.yaml"
    path.write_text(text)
    return str(path)


# -- help ------------------------------------------------------------------------------------------------------------


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_explains_itself_with_an_example(path: tuple[str, ...]) -> None:
    shown = eventbus(*path, "--help")
    assert shown.exit_code == 0
    assert f"eventbus {' '.join(path)}" in shown.stdout.partition("Example")[2]


def test_the_first_page_says_what_there_is_and_how_it_ends() -> None:
    shown = eventbus("--help").stdout
    assert "..." not in shown.partition("Commands:")[2], "a command's first sentence is cut: shorten it"
    for name in ("worker", "gateway", "publish", "listen", "topics", "integrations", "config", "demo"):
        assert f"\n  {name} " in shown
    codes = "0 done, 1 failed, 2 usage or configuration, 3 nothing fits, 4 refused until you say so, 5 Redis"
    assert f"Exit codes: {codes}" in " ".join(shown.split())


# -- publish ---------------------------------------------------------------------------------------------------------


def test_publishing_prints_what_redis_confirmed() -> None:
    done = eventbus("publish", "vm.created", '{"vm_id": "1"}', "--url", "memory://")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("stored  vm.created  ")
    assert done.stdout.endswith("  number 1  memory\n")


def test_as_json_it_is_a_receipt_and_a_repeat_is_a_duplicate() -> None:
    arguments = ["publish", "custom.backup_done", '{"size_gb": 12}', "--idempotency-key", "backup-1", "--json"]
    first, second = (eventbus(*arguments, "--url", "memory://cli-duplicate") for _ in range(2))
    receipt = json.loads(first.stdout)
    assert sorted(receipt) == ["durability", "entry_id", "id", "sequence", "status", "topic"]
    assert (receipt["topic"], receipt["status"], receipt["sequence"]) == ("custom.backup_done", "stored", 1)
    assert json.loads(second.stdout) == receipt | {"status": "duplicate"}
    assert (first.exit_code, second.exit_code) == (0, 0)


def test_data_is_read_from_standard_input() -> None:
    assert eventbus("publish", "vm.created", "-", "--url", "memory://", stdin='{"vm_id": "1"}').exit_code == 0


@pytest.mark.parametrize("text", ["", "{", "vm_id=1", '{"a": ' * 100_000, "[1]", '"text"', "null"])
def test_data_that_is_no_json_object_is_a_usage_error(text: str) -> None:
    done = eventbus("publish", "vm.created", "-", "--url", "memory://", stdin=text)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: the data is ")
    assert len(done.stderr.splitlines()) == 1


def test_input_that_is_not_utf_8_is_a_usage_error() -> None:
    child = program("publish", "vm.created", "-", "--url", "memory://", stdin=subprocess.PIPE)
    _, stderr = child.communicate(b'{"vm_id": "\xff"}', timeout=60)
    assert child.returncode == 2
    assert stderr.startswith(b"error: the data is not JSON: ")


def test_a_wrong_payload_is_refused_naming_each_field() -> None:
    done = eventbus("publish", "vm.created", '{"vcpus": 0}', "--url", "memory://")
    assert done.exit_code == 1
    assert done.stderr == (
        "error: refused: vm.created: vm_id: field required; vcpus: input should be greater than or equal to 1\n"
        "  its fields: eventbus topics vm.created\n"
    )


@pytest.mark.parametrize("topic", ["Vm.Created", "vm created", "vm.*", ""])
def test_what_is_no_topic_is_refused(topic: str) -> None:
    done = eventbus("publish", topic, "{}", "--url", "memory://")
    assert done.exit_code == 1
    assert "is not a topic: use dotted lower-case segments" in done.stderr


def test_an_idempotency_key_used_for_something_else_is_refused() -> None:
    common = ["--idempotency-key", "once", "--url", "memory://cli-conflict"]
    assert eventbus("publish", "custom.a", '{"n": 1}', *common).exit_code == 0
    done = eventbus("publish", "custom.a", '{"n": 2}', *common)
    assert done.exit_code == 1
    assert "error: custom.a: idempotency key 'once' was used for event " in done.stderr


def test_with_a_spool_in_the_file_it_is_kept_on_disk_while_redis_is_away_and_sent_later(
    tmp_path: Path, own_redis: EmbeddedRedis
) -> None:
    spool = f"spool: {tmp_path}/spool"
    away = written(tmp_path, f"events: {{url: '{NOBODY_LISTENS}', {spool}}}\n")
    done = eventbus("publish", "custom.a", '{"n": 1}', "--config", away)
    assert (done.exit_code, done.stdout.split()[0], done.stdout.split()[-1]) == (0, "spooled", "spool")
    assert done.stderr.startswith(f"Redis did not take it: it waits in {tmp_path}/spool; the next program")
    receipt = json.loads(eventbus("publish", "custom.a", '{"n": 2}', "--config", away, "--json").stdout)
    assert (receipt["status"], receipt["durability"], receipt["sequence"]) == ("spooled", "spool", 0)
    back = written(tmp_path, f"events: {{url: 'embedded://{own_redis.home}', {spool}}}\n")

    last = eventbus("publish", "custom.a", '{"n": 3}', "--config", back)
    assert (last.exit_code, last.stderr) == (0, "")

    async def log() -> list[int]:
        async with EventBus.open(f"embedded://{own_redis.home}") as bus:
            return [json.loads(entry.wire)["data"]["n"] for entry in await bus._history.between()]

    assert asyncio.run(log()) == [1, 2, 3], "what was spooled comes first"


def test_another_address_leaves_the_spool_of_the_file_alone(tmp_path: Path) -> None:
    path = written(tmp_path, f"events: {{url: 'memory://a', spool: {tmp_path}/spool}}\n")
    done = eventbus("publish", "custom.a", "--config", path, "--url", NOBODY_LISTENS)
    assert (done.exit_code, (tmp_path / "spool").exists()) == (5, False)
    assert eventbus("publish", "custom.a", "--config", path, "--url", "memory://a").exit_code == 0
    assert (tmp_path / "spool").exists(), "the same address is not another one"


@pytest.mark.parametrize("more", [[], ["--url", "{url}"]])
def test_the_level_in_the_file_has_to_be_reached(tmp_path: Path, own_redis: EmbeddedRedis, more: list[str]) -> None:
    url = f"embedded://{own_redis.home}"
    given = [one.format(url=url) for one in more]
    path = written(tmp_path, f"events: {{url: '{'memory://' if more else url}', durability: replica}}\n")
    done = eventbus("publish", "custom.a", "--config", path, *given)
    assert (done.exit_code, done.stdout) == (5, "")
    assert "publish the same event again" in done.stderr
    ask(own_redis.socket_path, b"CONFIG SET appendfsync always")
    path = written(tmp_path, f"events: {{url: '{'memory://' if more else url}', durability: aof}}\n")
    done = eventbus("publish", "custom.a", "--config", path, *given)
    assert (done.exit_code, done.stdout.split()[0], done.stdout.split()[-1]) == (0, "stored", "aof")


# -- where the bus is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["publish", "vm.created", '{"vm_id": "1"}'], ["listen"]])
def test_a_redis_that_is_away_is_exit_code_5(arguments: list[str]) -> None:
    done = eventbus(*arguments, "--url", NOBODY_LISTENS)
    assert done.exit_code == 5
    assert f"can't reach Redis at {NOBODY_LISTENS}: " in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize("arguments", [["publish", "a.b"], ["listen"], ["worker"], ["integrations", "list"]])
def test_what_is_no_address_is_a_usage_error_that_keeps_its_password(arguments: list[str]) -> None:
    done = eventbus(*arguments, "--url", f"postgres://user:{CANARY}@host/db")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: --url (or EVENTBUS_URL) is no address of the bus: use memory://, ")
    assert CANARY not in done.output


def test_the_address_may_come_from_the_environment_or_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, f"events: {{url: '{NOBODY_LISTENS}'}}\n")
    assert eventbus("listen", "--config", path).exit_code == 5
    monkeypatch.setenv("EVENTBUS_URL", "memory://")
    assert eventbus("publish", "vm.created", '{"vm_id": "1"}', "--config", path).exit_code == 0
    assert eventbus("listen", "--url", NOBODY_LISTENS).exit_code == 5, "the option counts for more"


def test_a_one_shot_command_does_not_wait_for_integrations_to_load() -> None:
    code = (
        "import sys; from service.cli import main\n"
        "try: main(['publish', 'vm.created', '{\"vm_id\": \"1\"}', '--url', 'memory://'])\n"
        "finally: print(sorted(m for m in ('slack_bolt', 'slack_sdk', 'github', 'uvicorn') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["worker"], ["gateway"], ["publish", "a.b"], ["listen"], ["integrations", "list"]]
)
def test_a_settings_file_that_is_not_there_is_a_usage_error(arguments: list[str]) -> None:
    done = eventbus(*arguments, "--config", "no/such.yaml")
    assert (done.exit_code, done.stderr) == (2, "error: there is no file no/such.yaml\n")
    assert eventbus("config", "check", "no/such.yaml").exit_code == 2


FAULTY = """\
events:
  url: nowhere://
integrations:
  webhook:
    endpoint: []
  jira: {}
worker:
  lease_seconds: -1
"""


def test_all_faults_of_a_settings_file_come_at_once_each_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, FAULTY)
    done = eventbus("config", "check", path)
    assert done.exit_code == 2
    found = [line.removeprefix("error: ").removeprefix(path) for line in done.stderr.splitlines()]
    assert [line.split(" ")[0] for line in found] == [
        ":2:",
        ":4:",
        ":5:",
        ":6:",
        ":8:",
    ]
    as_json = eventbus("config", "check", path, "--json")
    assert as_json.exit_code == 2
    said = json.loads(as_json.stdout)
    assert (said["file"], said["ok"]) == (path, False)
    assert [(fault["line"], fault["path"]) for fault in said["faults"]] == [
        (2, "events.url"),
        (4, "integrations.webhook.endpoints"),
        (5, "integrations.webhook.endpoint"),
        (6, "integrations.jira"),
        (8, "worker.lease_seconds"),
    ]
    assert all(fault["message"] for fault in said["faults"])


def test_a_right_settings_file_is_summed_up(tmp_path: Path) -> None:
    path = written(tmp_path, f"events: {{url: 'redis://:{CANARY}@db:6379/1'}}\nintegrations: {{log: {{}}}}\n")
    done = eventbus("config", "check", path)
    assert (done.exit_code, done.stdout) == (0, f"{path} is right: bus redis://db:6379/1; on: log; off: none\n")
    said = json.loads(eventbus("config", "check", path, "--json").stdout)
    assert said == {"file": path, "ok": True, "bus": "redis://db:6379/1", "on": ["log"], "off": [], "warnings": []}


# -- topics ----------------------------------------------------------------------------------------------------------


def test_topics_are_a_plain_table_where_it_is_not_a_terminal() -> None:
    lines = eventbus("topics").stdout.splitlines()
    assert lines[0].split() == ["TOPIC", "ORDERED", "BY", "FIELDS", "(*", "REQUIRED)", "MEANING"]
    (row,) = [line for line in lines if line.startswith("vm.created ")]
    assert row.split() == ["vm.created", "vm_id", "vm_id*", "vm_name", "vcpus", "memory_mb", "A", "machine", "exists."]


def test_a_topic_is_shown_with_fields_and_an_example_that_can_be_published() -> None:
    shown = eventbus("topics", "task.failed").stdout
    (row,) = [line for line in shown.splitlines() if line.startswith("error ")]
    assert row.split(maxsplit=3) == ["error", "string", "yes", "What went wrong, for people"]
    example = shown.partition("Example:\n")[2]
    assert eventbus("publish", "task.failed", example, "--url", "memory://").exit_code == 0


def test_topics_as_json_have_schema_and_example() -> None:
    every = {one["topic"]: one for one in json.loads(eventbus("topics", "--json").stdout)}
    one = json.loads(eventbus("topics", "vm.created", "--json").stdout)
    assert sorted(one) == ["example", "key", "meaning", "schema", "topic", "version"]
    assert every["vm.created"] == one
    assert one["schema"]["required"] == ["vm_id"]


def test_a_topic_outside_the_catalogue_is_exit_code_1() -> None:
    done = eventbus("topics", "team.lunch")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "error: team.lunch is not in the catalogue; it may carry any JSON object\n"


def test_a_payload_class_without_docstring_is_listed_too() -> None:
    class Bare(Payload, topic="test.bare"):
        n: int

    Bare.__doc__ = None
    try:
        assert "\ntest.bare  " in eventbus("topics").stdout
        assert eventbus("topics", "test.bare").exit_code == 0
    finally:
        catalog.remove(Bare)


@pytest.mark.parametrize("arguments", [["topics", "--json"], ["topics"], ["integrations", "list"]])
def test_a_reader_that_has_seen_enough_is_no_error(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    child = program(*arguments, stdout=writer)
    os.close(writer)
    _, stderr = child.communicate(timeout=60)
    assert (child.returncode, stderr) == (0, b"")


# -- listen ----------------------------------------------------------------------------------------------------------


HOSTILE = {
    "title\x1b[2J": "\x1b]0;owned\x07 \x9b31m red \r over",
    "turned": "\u202egnp.exe",
    "deep": {"k\x1b[H": ["\x1b[H"]},
}
"""Escape sequences of ECMA-48 in both forms, a window title, a carriage return, a right-to-left override: in values
and in names, since an untyped event brings its own."""
CONTROLS = ("\x1b", "\x07", "\x9b", "\r", "\u202e")


@contextmanager
def listening(folder: Path, *arguments: str, **options: object) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`eventbus listen` as a process that listens already, and the address it listens at."""
    url = f"embedded://{folder / 'redis'}"
    child = program("listen", "--count", "1", "--url", url, *arguments, **options)
    try:
        yield child, url
    finally:
        child.kill()
        child.communicate()


def publish_until_it_ends(child: subprocess.Popen[bytes], url: str) -> None:
    """Nobody can see from outside when a listener begins to listen; so the same event is published again and again."""
    with SyncPublisher(url) as bus:
        for _ in range(300):
            bus.publish("custom.hostile", HOSTILE)
            with suppress(subprocess.TimeoutExpired):
                child.wait(0.1)
                return
    pytest.fail("the listener did not end after its event")


def test_an_event_is_shown_as_one_line_that_can_not_drive_the_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with listening(tmp_path, stdout=theirs) as (child, url):
        publish_until_it_ends(child, url)
        os.close(theirs)
        shown = os.read(ours, 65_536).decode()
        assert child.returncode == 0
    os.close(ours)
    assert "\x1b[36mcustom.hostile" in shown, "a terminal gets colours, of ours"
    text = shown.removesuffix("\r\n").replace("\x1b[36m", "", 1).replace("\x1b[0m", "", 1)
    assert not [c for c in CONTROLS if c in text]
    assert "title?[2J=?]0;owned? ?31m red ? over turned=?gnp.exe" in text


def test_as_json_an_event_is_one_line_of_cloudevents_for_machines(tmp_path: Path) -> None:
    with listening(tmp_path, "custom.*", "--json") as (child, url):
        publish_until_it_ends(child, url)
        stdout, _ = child.communicate()
    line = stdout.decode()
    assert line.count("\n") == 1
    assert not [c for c in CONTROLS if c in line]
    event = json.loads(line)
    assert (event["specversion"], event["type"], event["data"]) == ("1.0", "custom.hostile", HOSTILE)


def test_a_pattern_that_is_none_is_a_usage_error() -> None:
    done = eventbus("listen", "Vm.*", "--url", "memory://")
    assert done.exit_code == 2
    assert "error: 'Vm.*' is not a topic pattern: use a topic, with * for one segment (vm.*)" in done.stderr


# -- integrations ----------------------------------------------------------------------------------------------------


def test_integrations_are_listed_configured_first(tmp_path: Path) -> None:
    path = written(
        tmp_path, "integrations:\n  failures: {adapter: log, topics: [task.failed]}\n  slack: {enabled: false}"
    )
    rows = json.loads(eventbus("integrations", "list", "--config", path, "--json").stdout)
    states = [(row["name"], row["adapter"], row["state"]) for row in rows]
    assert states == [
        ("failures", "log", "on"),
        ("slack", "slack", "off"),
        ("-", "alertmanager", "not configured"),
        ("-", "cloudwatch", "not configured"),
        ("-", "datadog", "not configured"),
        ("-", "email", "not configured"),
        ("-", "github", "not configured"),
        ("-", "pagerduty", "not configured"),
        ("-", "prometheus", "not configured"),
        ("-", "webhook", "not configured"),
    ]
    plain = eventbus("integrations", "list", "--config", path).stdout
    assert plain.splitlines()[0].split() == ["NAME", "ADAPTER", "FROM", "STATE", "TIER", "EFFECTS", "MAKES", "TAKES"]
    assert plain.isascii(), "no frames where it is not a terminal"


def test_health_of_what_works_is_exit_code_0() -> None:
    done = eventbus("integrations", "health", "--url", "memory://")
    assert done.exit_code == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["COMPONENT", "STATE", "LATENCY", "DETAIL"]
    assert [line[:3] for line in lines[1:]] == [["event_bus", "✓", "healthy"], ["log", "✓", "healthy"]]
    assert "no service is configured, events reach the log at most" in done.stderr
    assert "\x1b" not in done.stdout


def test_health_names_what_is_down_and_is_exit_code_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # free again in a moment
    endpoint = f"{{name: billing, url: 'http://127.0.0.1:{port}/{CANARY}', allow_private: [127.0.0.1]}}"
    path = written(tmp_path, f"events: {{url: 'memory://'}}\nintegrations: {{webhook: {{endpoints: [{endpoint}]}}}}")
    done = eventbus("integrations", "health", "--json", "--config", path)
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert {name: one["state"] for name, one in found.items()} == {"event_bus": "healthy", "webhook": "unhealthy"}
    assert found["webhook"]["detail"].startswith(f"billing: http://127.0.0.1:{port}: ConnectError")
    assert sorted(found["webhook"]) == ["detail", "latency_ms", "state"]
    assert CANARY not in done.output


def test_a_notification_is_sent_once_per_key() -> None:
    arguments = ["integrations", "send", "log", "Deploy starts", "--idempotency-key", "deploy-1"]
    first, second = (eventbus(*arguments, "--url", "memory://cli-send", "--json") for _ in range(2))
    assert sorted(json.loads(first.stdout)) == ["detail", "outcome", "reference", "url"]
    assert [json.loads(one.stdout)["outcome"] for one in (first, second)] == ["delivered", "duplicate"]
    other = eventbus("integrations", "send", "log", "Something else", *arguments[-2:], "--url", "memory://cli-send")
    assert other.exit_code == 1
    assert other.stderr == "error: log: this idempotency key was used for something else\n"


def test_sending_through_what_is_not_configured_names_what_is() -> None:
    done = eventbus("integrations", "send", "slack", "Hello", "--url", "memory://")
    assert (done.exit_code, done.stderr) == (1, "error: no integration 'slack' is configured; configured: log\n")


@pytest.mark.parametrize("arguments", [["nonsense"], ["publish"], ["listen", "--count", "0"], ["publish", "--what"]])
def test_a_wrong_call_is_exit_code_2(arguments: list[str]) -> None:
    done = eventbus(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("Usage: ")
