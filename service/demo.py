"""`eventbus demo`: the whole journey on this machine, with nothing but what the wheel brings.

A worker and a gateway run as processes of their own on an embedded Redis. Slack, GitHub and a webhook receiver are the
adapters' honest stand-ins on real ports; they hold the truth about what arrived. The worker is killed at the worst
moment: its request has been carried out, the answer has not come. In the end every effect is counted at the stand-ins.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
import yaml
from rich.console import Console

from eventbus import Event, EventBus, catalog
from eventbus.topics import MigrationCompleted, TaskCompleted, TaskFailed, VmCreated
from integrations.github.fake import FakeGitHub
from integrations.slack.fake import FakeSlack
from integrations.webhook.fake import FakeReceiver
from service.cli import output
from service.process import Child

API_KEY = "demo-key-not-a-secret"
LEASE_SECONDS = 2
PATIENCE_SECONDS = 20.0

_console = Console(highlight=False)


@dataclass(slots=True)
class Done:
    """One line of a worker's log: an integration finished a delivery."""

    integration: str
    event_id: str
    attempt: int
    outcome: str
    latency_ms: float
    reference: str


@dataclass(slots=True)
class Stage:
    """Everything that runs, and what was seen so far."""

    folder: Path
    slack: FakeSlack
    github: FakeGitHub
    receiver: FakeReceiver
    config: Path
    worker: Child
    gateway: Child
    http: httpx.AsyncClient
    bus: EventBus
    pull_request: str
    done: list[Done] = field(default_factory=list)
    early: list[dict[str, Any]] = field(default_factory=list)
    """Log lines about events whose receipt has not come back to us yet."""
    events: dict[str, str] = field(default_factory=dict)


async def run_demo(*, keep: bool) -> int:
    """Play it. Returns the exit code: 0 when everything arrived once."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="eventbus-demo-") as folder:
        async with _stage(Path(folder)) as stage:
            try:
                await _webhooks_come_in(stage)
                await _events_are_published(stage)
                await _the_worker_is_killed(stage)
                faults = await _count(stage)
            except TimeoutError as error:
                faults = [str(error)]
            _report(stage, faults, time.monotonic() - started)
            if keep:
                await _keep(stage)
        return 1 if faults else 0


# -- the stage -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _stage(folder: Path) -> AsyncIterator[Stage]:
    _heading("Starting")
    async with AsyncExitStack() as stack:
        slack = await stack.enter_async_context(FakeSlack())
        github = await stack.enter_async_context(FakeGitHub())
        receiver = await stack.enter_async_context(FakeReceiver())
        bus = await stack.enter_async_context(EventBus.open(f"embedded://{folder / 'redis'}"))
        await bus.check_server()
        _say("redis", f"a real server, kept in {folder / 'redis'}, append-only file on")
        for name, fake in (("slack", slack), ("github", github), ("receiver", receiver)):
            _say(name, f"stand-in on {fake.url}")
        config, secrets = _config(folder, slack, github, receiver)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False))
        worker = Child("worker", [*_program("worker"), "--config", str(config)], secrets, folder)
        gateway = Child("gateway", [*_program("gateway"), "--config", str(config)], secrets, folder)
        stack.push_async_callback(gateway.stop)
        stack.push_async_callback(worker.stop)
        pull_request = str(github.pull_request_opened()["pull_request"]["html_url"])
        stage = Stage(folder, slack, github, receiver, config, worker, gateway, http, bus, pull_request)
        worker.on_line(lambda line: _heard(stage, line))
        await asyncio.gather(worker.start(), gateway.start())
        await worker.wait_for("working", PATIENCE_SECONDS)
        answering = await gateway.wait_for("answering", PATIENCE_SECONDS)
        http.base_url = httpx.URL(str(answering["url"]))
        _say("worker", f"process {worker.pid}")
        _say("gateway", f"process {gateway.pid} on {http.base_url}")
        yield stage


def _program(name: str) -> list[str]:
    return [sys.executable, "-m", "service", name]


def _config(folder: Path, slack: FakeSlack, github: FakeGitHub, receiver: FakeReceiver) -> tuple[Path, dict[str, str]]:
    """A settings file as a user would write it, its secrets in the environment."""
    slack_settings = slack.settings()
    github_settings = github.settings()
    (endpoint,) = receiver.settings()["endpoints"]
    secrets = {
        "SLACK_BOT_TOKEN": slack_settings["bot_token"],
        "SLACK_SIGNING_SECRET": slack_settings["signing_secret"],
        "GITHUB_TOKEN": github_settings["token"],
        "GITHUB_WEBHOOK_SECRET": github_settings["webhook_secret"],
        "WEBHOOK_SECRET": endpoint["secret"],
        "EVENTBUS_API_KEY": API_KEY,
    }
    settings = {
        "events": {"url": f"embedded://{folder / 'redis'}"},
        "integrations": {
            "slack": {
                **slack_settings,
                "bot_token": "${SLACK_BOT_TOKEN}",
                "signing_secret": "${SLACK_SIGNING_SECRET}",
                "channels": {"vm.*": "#vms"},
                "default_channel": "#deployments",
            },
            "github": {**github_settings, "token": "${GITHUB_TOKEN}", "webhook_secret": "${GITHUB_WEBHOOK_SECRET}"},
            "webhook": {
                "endpoints": [{**endpoint, "secret": "${WEBHOOK_SECRET}", "topics": ["task.*", "vm.*", "migration.*"]}]
            },
        },
        "worker": {"lease_seconds": LEASE_SECONDS, "port": 0, "retry_base_seconds": 0.2},
        "gateway": {"port": 0, "api_keys": ["${EVENTBUS_API_KEY}"]},
        "log": {"format": "json"},
    }
    path = folder / "eventbus.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path, secrets


# -- the acts --------------------------------------------------------------------------------------------------------


async def _webhooks_come_in(stage: Stage) -> None:
    _heading("Webhooks come in, signed, over HTTP")
    headers, body = stage.github.raw_webhook("pull_request", stage.github.pull_request_opened())
    answer = await stage.http.post("/api/v1/webhooks/github", headers=headers, content=body)
    _came("github", "pull_request opened", answer)
    forged = await stage.http.post("/api/v1/webhooks/github", headers=headers, content=body + b" ")
    _came("github", "the same, one byte changed", forged)
    command = stage.slack.slash_command("/eventbus-status")
    answer = await stage.http.post("/api/v1/webhooks/slack", headers=command.headers, content=command.body)
    _came("slack", "/eventbus-status", answer)
    await _until(lambda: bool(stage.slack.responses), "the answer to /eventbus-status")
    for line in stage.slack.responses[-1].text.splitlines():
        _say("", line)
    if answer.status_code != 200 or forged.status_code != 401:
        raise TimeoutError("the gateway did not answer as it should")


async def _events_are_published(stage: Stage) -> None:
    _heading("Events are published: two from Python, two over REST")
    for payload in (
        VmCreated(vm_id="vm-1", vm_name="my-vm", vcpus=2, memory_mb=2048),
        TaskCompleted(task_id="task-1", name="unit tests", pull_request=stage.pull_request, duration_ms=1834),
    ):
        event = catalog.event(payload, source="/demo")
        receipt = await stage.bus.publish(event)
        _published(stage, event, receipt.status)
    over_rest: tuple[TaskFailed | MigrationCompleted, ...] = (
        TaskFailed(
            task_id="task-2",
            name="load test",
            pull_request=stage.pull_request,
            error="p99 is 2.1 s",
            error_type="TooSlow",
        ),
        MigrationCompleted(migration="add_user_email", environment="production", duration_ms=2310),
    )
    for asked in over_rest:
        event = catalog.event(asked, source="/demo")
        body = {"topic": event.topic, "data": event.data.model_dump(mode="json", exclude_none=True)}
        headers = {"Authorization": f"Bearer {API_KEY}", "Idempotency-Key": event.id}
        answer = await stage.http.post("/api/v1/events", json=body, headers=headers)
        if answer.status_code != 202:
            raise TimeoutError(f"the gateway answered {answer.status_code} to {event.topic}: {answer.text[:200]}")
        said = answer.json()
        _published(stage, event.model_copy(update={"id": said["id"]}), said["status"])
    await _until(lambda: _is_complete(stage), "every integration to finish those four")


async def _the_worker_is_killed(stage: Stage) -> None:
    _heading("The worker is killed: GitHub has the comment, the worker has no answer yet")
    held = stage.github.hold()
    event = catalog.event(
        TaskCompleted(task_id="task-3", name="nightly build", pull_request=stage.pull_request),
        source="/demo",
    )
    receipt = await stage.bus.publish(event)
    _published(stage, event, receipt.status)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await held.committed.wait()
    # Slack alone can't tell a repeat (its README says so): let it finish, so that the kill hits GitHub's call only.
    await _until(lambda: {"slack", "webhook"} <= _finished(stage, event.id), "Slack and the receiver to finish")
    old = stage.worker.pid
    stage.worker.kill(signal.SIGKILL)
    held.released.set()
    more = catalog.event(VmCreated(vm_id="vm-2", vm_name="published-while-dead"), source="/demo")
    receipt = await stage.bus.publish(more)
    _say("kill -9", f"process {old}")
    _published(stage, more, receipt.status)
    started = time.monotonic()
    await stage.worker.start()
    _say("worker", f"process {stage.worker.pid}; it takes over when the lease of {LEASE_SECONDS} s has run out")
    await _until(lambda: _is_complete(stage), "the new worker to finish what the old one left")
    _say("", f"everything done {time.monotonic() - started:.1f} s after the new worker was started")


# -- the truth -------------------------------------------------------------------------------------------------------


def _is_complete(stage: Stage) -> bool:
    """Everything arrived at the stand-ins, and the worker has said so."""
    said = {(one.event_id, one.integration) for one in stage.done}
    wanted = {(event_id, who) for event_id, name in stage.events.items() for who in _wanting(name)}
    return wanted <= said and not [line for line in _faults(stage) if line.startswith("missing")]


def _finished(stage: Stage, event_id: str) -> set[str]:
    return {one.integration for one in stage.done if one.event_id == event_id}


def _wanting(name: str) -> list[str]:
    return ["slack", "webhook", *(["github"] if name.startswith("task.") else [])]


async def _count(stage: Stage) -> list[str]:
    """Faults found at the stand-ins, after giving a double the time to show itself."""
    await asyncio.sleep(LEASE_SECONDS)
    return _faults(stage)


def _faults(stage: Stage) -> list[str]:
    webhooks = Counter(
        str(one.content["data"].get("task_id") or _subject(one.content["data"])) for one in _unique(stage)
    )
    faults = _compare("signed webhook", {_subject_of(name) for name in stage.events.values()}, webhooks)
    comments = [comment.body for comment in stage.github.comments]
    about = Counter(task for task in ("task-1", "task-2", "task-3") for body in comments if task in body)
    faults += _compare(
        "pull-request comment", {t for t in map(_subject_of, stage.events.values()) if "task" in t}, about
    )
    texts = [json.dumps(message.blocks) + message.text for message in stage.slack.messages]
    shown = Counter(s for s in map(_subject_of, stage.events.values()) for text in texts if s in text)
    return faults + _compare("Slack message", set(map(_subject_of, stage.events.values())), shown)


def _unique(stage: Stage) -> list[Any]:
    return list({one.webhook_id: one for one in stage.receiver.received}.values())


def _subject(data: dict[str, Any]) -> str:
    return str(data.get("vm_id") or data.get("migration"))


def _subject_of(name: str) -> str:
    return name.rpartition(" ")[2]


def _compare(what: str, wanted: set[str], found: Counter[str]) -> list[str]:
    missing = [f"missing: the {what} about {one}" for one in sorted(wanted) if not found[one]]
    return missing + [f"doubled: the {what} about {one} exists {n} times" for one, n in sorted(found.items()) if n > 1]


# -- what is shown ---------------------------------------------------------------------------------------------------


def _heard(stage: Stage, line: dict[str, Any]) -> None:
    if line.get("event") not in ("delivered", "not delivered"):
        return
    if line["event_id"] not in stage.events:
        stage.early.append(line)
        return
    who = f"<- {line['integration']:<8} {line['topic']:<20}"
    if line["event"] == "not delivered":
        _say("", f"{who} attempt {line['attempt']} failed: {line['error']}", style="yellow")
        return
    done = Done(
        integration=line["integration"],
        event_id=line["event_id"],
        attempt=line["attempt"],
        outcome=line["outcome"],
        latency_ms=line["latency_ms"],
        reference=str(line.get("reference") or "-"),
    )
    stage.done.append(done)
    note = f": {line['detail']}" if done.outcome == "duplicate" else ""
    _say("", f"{who} {done.outcome}{note}, {done.latency_ms:.0f} ms", style="green")


def _report(stage: Stage, faults: list[str], seconds: float) -> None:
    _heading("What each integration did")
    rows = [
        [
            stage.events[one.event_id],
            one.integration,
            one.outcome,
            str(one.attempt),
            f"{one.latency_ms:.0f} ms",
            one.reference,
        ]
        for one in sorted(stage.done, key=lambda one: (list(stage.events).index(one.event_id), one.integration))
    ]
    output.table(["event", "integration", "outcome", "attempt", "latency", "reference"], rows)
    click.echo("What took over a second waited for its turn: Slack takes about one message a second for each channel.")
    repeats = stage.receiver.repeats
    counted = (
        f"{len(stage.slack.messages)} Slack messages, {len(stage.github.comments)} pull-request comments, "
        f"{len(_unique(stage))} signed webhooks"
        + (f" ({repeats} repeated under the same webhook-id)" if repeats else "")
    )
    click.echo(f"Counted at the stand-ins: {counted}.")
    if faults:
        for fault in faults:
            click.echo(click.style("✗ ", fg="red") + fault, err=True)
        click.echo(f"The logs: {stage.folder}", err=True)
    else:
        click.echo(click.style("✓ ", fg="green") + f"Nothing was lost or doubled. {seconds:.0f} s.")


async def _keep(stage: Stage) -> None:
    eventbus = f"{Path(sys.argv[0]).name if sys.argv[0].endswith('eventbus') else 'python -m service'}"
    config = f"--config {stage.config}"
    url = stage.http.base_url
    _heading("Still running; Ctrl-C ends it. Try, in another terminal")
    variables = {**stage.worker.environment, "GATEWAY": str(url), "KEY": API_KEY}
    exported = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    click.echo(
        f"  export {exported}\n"
        f"  {eventbus} listen {config}\n"
        f'  {eventbus} publish vm.created \'{{"vm_id": "7", "vm_name": "mine"}}\' {config}\n'
        f"  {eventbus} integrations health {config}\n"
        f"  {eventbus} integrations send slack 'Hello' --to '#general' {config}\n"
        "  curl $GATEWAY/api/v1/health\n"
        "  curl $GATEWAY/metrics\n"
        "  curl $GATEWAY/api/v1/events -H \"X-API-Key: $KEY\" -H 'Content-Type: application/json' \\\n"
        '    -d \'{"topic": "vm.started", "data": {"vm_id": "7"}}\'\n'
        f"  kill -9 {stage.worker.pid}      # then publish, and start another: {eventbus} worker {config}\n"
    )
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    shown = len(stage.slack.messages)
    while not stop.is_set():
        for message in stage.slack.messages[shown:]:
            _say("slack", f"{message.channel}: {message.text}")
        shown = len(stage.slack.messages)
        try:
            await asyncio.wait_for(stop.wait(), 0.2)
        except TimeoutError:
            continue


def _published(stage: Stage, event: Event[Any], status: str) -> None:
    data = event.data
    subject = getattr(data, "task_id", None) or getattr(data, "vm_id", None) or getattr(data, "migration", "")
    stage.events[event.id] = f"{event.topic} {subject}"
    _say(status, f"-> {event.topic} {subject}", style="cyan")
    early, stage.early = stage.early, []
    for line in early:
        _heard(stage, line)


def _came(who: str, what: str, answer: httpx.Response) -> None:
    _say(who, f"{what}: {answer.status_code} {answer.reason_phrase}")


def _heading(text: str) -> None:
    _console.print(f"\n[bold]{text}[/bold]")


def _say(what: str, text: str, *, style: str = "") -> None:
    _console.print(f"  {what:<10} ", end="", style="dim")
    _console.print(text, style=style, markup=False, soft_wrap=True)


async def _until(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_SECONDS:g} s in vain for {what}")
        await asyncio.sleep(0.02)
