"""The services whose effects are counted: each adapter with its stand-in, and how to read the truth off it.

An event carries its number in its name. `effects` is the number of every effect that exists at the stand-in, one entry
for each, so that a list says at once what is missing and what is doubled. `Answers` loses the answers to the requests
that make effects, and to no others: what a look-up is told stays as it is.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventbus import Event, catalog
from eventbus.topics import TaskFailed
from integrations.base import Integration
from integrations.email import Email
from integrations.email.fake import FakeMail
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub
from integrations.pagerduty import PagerDuty
from integrations.pagerduty.fake import FakePagerDuty
from integrations.slack import Slack
from integrations.slack.fake import FakeSlack
from integrations.testing.fake import FakeService, given_up
from integrations.webhook import Webhook
from integrations.webhook.fake import FakeReceiver

PULLS = 25
NO_LIMIT = 10_000_000
"""Rate limits are not the subject wherever this is used."""


@dataclass(frozen=True)
class Service:
    """One way to make effects.

    name      of the account, and of its group where it has one
    settings  its section of the settings, for a stand-in that runs
    effects   the number of each effect that exists there
    write     how the path of the request ends that makes one; empty: every request does
    parks     nobody can find out whether an effect exists (at_least_once)
    """

    name: str
    adapter: type[Integration[Any]]
    fake: Callable[[], FakeService]
    settings: Callable[[Any], dict[str, Any]]
    effects: Callable[[Any], list[int]]
    write: str
    parks: bool = False

    @property
    def group(self) -> str:
        """Of its subscription."""
        return "webhook.receiver" if self.name == "webhook" else self.name


def happened(number: int, task: int | None = None) -> Event[TaskFailed]:
    """An event that every service acts on; each number has a task of its own, unless one is named."""
    task = number if task is None else task
    pull = f"https://github.com/acme/api/pull/{100 + task % PULLS}"
    return catalog.event(
        TaskFailed(
            task_id=f"task-{task}", name=f"number-{number}-", environment="production", error="x", pull_request=pull
        )
    )


def numbers(*texts: str) -> Iterator[int]:
    """The number that each text tells of, however often it says it."""
    for text in texts:
        yield from {int(found) for found in re.findall(r"number-(\d+)-", text)}


def _github() -> FakeGitHub:
    github = FakeGitHub()
    github.limit = NO_LIMIT
    for number in range(PULLS):
        github.open_pull("acme/api", f"branch-{number}", "main", number=100 + number)
    return github


def _pagerduty() -> FakePagerDuty:
    pagerduty = FakePagerDuty()
    pagerduty.limit = NO_LIMIT
    return pagerduty


def _slack() -> FakeSlack:
    slack = FakeSlack()
    slack.page = 200  # what our look-up asks for
    return slack


def _said(slack: FakeSlack) -> list[int]:
    return [*numbers(*(f"{message.text} {message.blocks}" for message in slack.messages))]


def _mailed(mail: FakeMail) -> list[int]:
    return [number for one in mail.mails for number in numbers(one.message["Subject"])]


def _received(receiver: FakeReceiver) -> list[int]:
    """A receiver knows a repeat by its id; so an id is an effect."""
    return [*numbers(*{one.webhook_id: str(one.content) for one in receiver.received}.values())]


def _alerts(pagerduty: FakePagerDuty) -> list[int]:
    return [*numbers(*(alert.log[0]["payload"]["summary"] for alert in pagerduty.alerts))]


def _comments(github: FakeGitHub) -> list[int]:
    return [*numbers(*(comment.body for comment in github.comments))]


SERVICES = (
    Service("github", GitHub, _github, FakeGitHub.settings, _comments, "/comments"),
    Service("pagerduty", PagerDuty, _pagerduty, FakePagerDuty.settings, _alerts, "/v2/enqueue"),
    Service("slack", Slack, _slack, FakeSlack.settings, _said, "/chat.postMessage"),
    Service("webhook", Webhook, FakeReceiver, FakeReceiver.settings, _received, "/hook"),
    Service("slack-hook", Slack, _slack, FakeSlack.webhook_settings, _said, "/services/{path:path}", parks=True),
)
"""GitHub and Slack are searched after a lost answer, PagerDuty drops a repeat by its key, a receiver of webhooks by its
id; and an incoming webhook of Slack's can neither be asked nor told."""

EMAIL = Service("email", Email, FakeMail, FakeMail.settings, _mailed, "", parks=True)
"""Nor can a mail server."""


@dataclass
class Answers:
    """What becomes of the answers of a stand-in's writes. Put it in place before the stand-in starts.

    losing       how many of the next ones are lost
    carried_out  whether those writes happen all the same
    stalled      their callers wait until they give up; otherwise the connections are cut
    lost         how many were
    hangs        no write is answered, or happens, until `go_on`
    asked        how many writes came
    """

    losing: int = 0
    carried_out: bool = True
    stalled: bool = False
    lost: int = 0
    hangs: bool = False
    asked: int = 0
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def take_over(self, fake: FakeService, write: str) -> None:
        """The answers of this stand-in to the requests whose path ends like this."""
        if not write:
            lose = fake.stall if self.stalled else fake.swallow
            lose("after" if self.carried_out else "before", times=self.losing)
            self.lost, self.losing = self.losing, 0
            return
        routes = fake.routes

        def wrapped() -> Sequence[BaseRoute]:
            found = routes()
            for route in found:
                if isinstance(route, Route) and route.path.endswith(write) and "POST" in (route.methods or ()):
                    route.app = self._around(route.app)
            return found

        vars(fake)["routes"] = wrapped

    def go_on(self) -> None:
        """End the hanging: those who still wait are cut off, the next ones are served."""
        self.hangs = False
        self._released.set()

    def _around(self, app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            self.asked += 1
            if self.hangs:
                await self._released.wait()
                await _break_off(send)
            elif self.losing > 0:
                self.losing, self.lost = self.losing - 1, self.lost + 1
                if self.carried_out:
                    await app(scope, receive, _nobody_hears)
                await (given_up(receive) if self.stalled else _break_off(send))
            else:
                await app(scope, receive, send)

        return answer


async def _nobody_hears(message: Message) -> None:
    """The effect happened; its answer is lost."""


async def _break_off(send: Send) -> None:
    """An announced body that never comes: the server closes the connection, the client sees it break."""
    with suppress(OSError):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
