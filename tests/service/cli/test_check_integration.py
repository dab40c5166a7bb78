"""`eventbus integrations doctor | drill | recover | app-manifest` as people and scripts meet them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from click.testing import CliRunner, Result

from integrations.github.fake import FakeGitHub
from integrations.slack.fake import FakeSlack
from integrations.testing.fake import FakeService
from service.cli.integrations import integrations
from tests.service.cli.conftest import Desk

S = TypeVar("S", bound=FakeService)


@contextmanager
def elsewhere(make: type[S]) -> Iterator[S]:
    """A stand-in in an event loop of its own: a command has one, too."""
    ready: Future[tuple[S, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        async with make() as service:
            done = asyncio.Event()
            ready.set_result((service, asyncio.get_running_loop(), done))
            await done.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    service, loop, done = ready.result(timeout=60)
    try:
        yield service
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()


def command(*arguments: str) -> Result:
    return CliRunner().invoke(integrations, arguments)


@pytest.fixture
def write(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets these integrations up, for the commands that follow."""

    def write(**accounts: Any) -> None:
        path = tmp_path / "eventbus.yaml"
        path.write_text(yaml.safe_dump({"events": {"url": desk.url}, "integrations": accounts}))
        monkeypatch.setenv("EVENTBUS_CONFIG", str(path))

    return write


def test_a_doctor_that_finds_nothing_bad_is_exit_code_0_and_shows_no_secret(write: Any) -> None:
    with elsewhere(FakeSlack) as slack:
        write(slack=slack.settings())
        done = command("doctor", "slack")
        assert done.exit_code == 0, done.output
        lines = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
        assert "✓ ok" in lines["rights"]
        assert "! warn" in lines["events of slack"], "no worker has ever served it"
        assert slack.token not in done.output
        assert slack.messages == []


def test_a_doctor_that_finds_something_bad_is_exit_code_1_and_says_what_to_do(write: Any) -> None:
    with elsewhere(FakeSlack) as slack:
        write(slack=slack.settings())
        slack.not_in.add(slack.channels["deployments"])
        done = command("doctor", "slack", "--json")
        document = json.loads(done.stdout)
        assert (done.exit_code, document["ok"], document["integration"]) == (1, False, "slack")
        (bad,) = [one for one in document["findings"] if one["level"] == "fail"]
        assert (bad["about"], bad["fix"]) == ("channel #deployments", "/invite the app in #deployments")


def test_the_others_need_not_be_ready_for_it(write: Any) -> None:
    write(log={}, slack={"bot_token": "xoxb-canary", "base_url": "http://127.0.0.1:1/api"})
    assert command("doctor", "log").exit_code == 0


@pytest.mark.parametrize(("name", "said"), [("nobody", "configured: log, slack"), ("slack", "enabled: true")])
def test_what_is_not_configured_or_switched_off_is_a_usage_error(write: Any, name: str, said: str) -> None:
    write(log={}, slack={"enabled": False})
    for verb in (["doctor"], ["drill", "--yes"], ["recover", "--since", "1d"], ["app-manifest"]):
        done = command(verb[0], name, *verb[1:])
        assert (done.exit_code, said in done.stderr) == (2, True), done.output


def test_a_drill_shows_its_steps_and_says_that_nobody_serves(write: Any, desk: Desk) -> None:
    with elsewhere(FakeSlack) as slack:
        write(slack=slack.settings())
        done = command("drill", "slack", "--here", "--yes")
        assert done.exit_code == 0, done.output
        steps = [line.split()[1] for line in done.stdout.splitlines()]
        assert steps == ["accepted", "taken", "sent", "noted", "seen", "taken"]
        assert done.stderr == "no worker serves slack: events wait until one does\n"
        assert slack.messages == []
        assert desk.do(lambda bus: bus.groups()) == {}


def test_a_drill_that_fails_names_the_step(write: Any) -> None:
    with elsewhere(FakeSlack) as slack:
        write(slack=slack.settings())
        slack.archived.add(slack.channels["deployments"])
        done = command("drill", "slack", "--here", "--yes", "--json")
        document = json.loads(done.stdout)
        assert (done.exit_code, document["ok"], document["failed"]) == (1, False, ["sent"])
        assert [step["name"] for step in document["steps"]] == ["accepted", "taken", "sent"]
        assert "is_archived" in document["steps"][-1]["said"]
        assert command("drill", "slack", "--here", "--yes").stderr.endswith("the drill failed at: sent\n")


def test_nothing_is_sent_where_nobody_can_be_asked_and_in_a_dry_run(write: Any) -> None:
    with elsewhere(FakeGitHub) as github:
        write(github=github.settings())
        done = command("drill", "github", "--to", "acme/api#7")
        assert (done.exit_code, "add --yes" in done.stderr) == (2, True)
        shown = command("drill", "github", "--to", "acme/api#7", "--dry-run")
        assert shown.exit_code == 0
        assert shown.stdout.startswith("comment on acme/api#7  POST ")
        done = command("drill", "github", "--here", "--yes")
        assert done.exit_code == 2, "nothing was done"
        assert done.stderr.startswith("error: '' names no issue or pull request: ")
        assert github.requests == []


def test_lost_webhooks_are_asked_for_again(write: Any) -> None:
    with elsewhere(FakeGitHub) as github:
        write(github=github.settings() | {"hooks": ["acme/api/292430182"]})
        github.record_delivery("lost", 502, hook="/repos/acme/api/hooks/292430182")
        old = datetime.now(UTC) - timedelta(hours=30)
        github.record_delivery("old", 502, hook="/repos/acme/api/hooks/292430182", at=old)
        done = command("recover", "github", "--since", "24h")
        assert (done.exit_code, done.stdout) == (0, "1 webhooks on record, 1 asked for again\n")
        assert json.loads(command("recover", "github", "--since", "3d", "--json").stdout)["asked"] == 2
        github.redelivery_limit = 0
        refused = command("recover", "github", "--since", "24h")
        assert (refused.exit_code, "broken off" in refused.stderr) == (1, True)


def test_who_can_not_recover_says_so(write: Any) -> None:
    write(log={})
    done = command("recover", "log", "--since", "1d")
    assert (done.exit_code, "of ours, github can" in done.stderr) == (2, True)


def test_the_manifest_of_a_slack_app_is_printed_without_a_secret(write: Any) -> None:
    write(slack={"bot_token": "xoxb-canary", "signing_secret": "canary", "command_prefix": "bus"})
    address = "https://bus.example.com/api/v1/webhooks/slack"
    done = command("app-manifest", "slack", "--webhook", address, "--app-name", "Bus")
    made = yaml.safe_load(done.stdout)
    assert made["display_information"]["name"] == "Bus"
    assert made["settings"]["interactivity"]["request_url"] == address
    assert next(one["command"] for one in made["features"]["slash_commands"]) == "/bus-status"
    assert "canary" not in done.output
    assert (
        json.loads(command("app-manifest", "slack", "--webhook", address, "--app-name", "Bus", "--json").stdout) == made
    )


def test_without_an_address_it_says_which_option_gives_it(write: Any) -> None:
    write(slack={"bot_token": "xoxb-canary"}, log={})
    done = command("app-manifest", "slack")
    assert (done.exit_code, done.stderr.startswith("error: --webhook: Slack calls https://")) == (2, True)
    assert "of ours, slack does" in command("app-manifest", "log").stderr
