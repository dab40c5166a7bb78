"""Event, notification or artifact in, request out. Pure: the same input gives the same bytes on every attempt.

That matters: a service that knows a repeat by its key refuses the key with another body. The real call and the preview
both take the request from here, so they can't differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from eventbus.catalog import explain
from eventbus.event import Event
from eventbus.topics import TaskFailed
from integrations.base import Artifact, Notification, What
from integrations.errors import Rejected
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from acme_tickets.config import TicketsConfig

MAX_TITLE = 200
MAX_TEXT = 10_000
"""Acme Tickets API, "Limits": characters of a title, and of the text of a ticket or comment."""

_TICKET_ID = re.compile(r"T-[0-9]{1,9}")


class Ticket(BaseModel):
    """The content of an artifact of type `ticket`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = Field(min_length=1, max_length=MAX_TITLE, description="One line")
    text: str = Field(default="", max_length=MAX_TEXT, description="What happened")
    priority: Literal["low", "normal", "urgent"] = Field(default="normal", description="low, normal or urgent")


@dataclass(frozen=True, slots=True)
class Request:
    """A POST of JSON: what it does in words, where to below `base_url`, and the body as it leaves."""

    doing: str
    path: str
    body: bytes


def request(what: What, config: TicketsConfig) -> Request | None:
    """The request that brings it out; None where it asks nothing of us. Raises Rejected for what can never be sent."""
    if isinstance(what, Notification):
        return comment(what)
    if isinstance(what, Artifact):
        return ticket(_content(what), config.queue)
    if isinstance(what.data, TaskFailed):
        return failed_task(what, config)
    return None


def failed_task(event: Event[TaskFailed], config: TicketsConfig) -> Request:
    """The ticket for a failed task."""
    data = event.data
    title = cut(data.name or data.task_id, MAX_TITLE - len(" failed")) + " failed"
    facts = {"Task": data.task_id, "Environment": data.environment, "Pull request": data.pull_request}
    lines = [data.error, *(f"{name}: {value}" for name, value in facts.items() if value)]
    return ticket(Ticket(title=title, text=cut("\n".join(lines), MAX_TEXT), priority=config.priority), config.queue)


def ticket(content: Ticket, queue: str) -> Request:
    """The ticket for an artifact."""
    return Request("open a ticket", "/api/tickets", to_json({"queue": queue, **content.model_dump()}))


def comment(notification: Notification) -> Request:
    """The comment for a notification; its target names the ticket, such as T-7."""
    number = notification.target
    if not _TICKET_ID.fullmatch(number):
        raise Rejected("a notification's target is the number of a ticket, such as T-7")
    title = [notification.title] if notification.title else []
    facts = [f"{name}: {value}" for name, value in notification.fields.items()]
    url = [notification.url] if notification.url else []
    text = "\n".join([*title, notification.message, *facts, *url])
    return Request(f"comment on {number}", f"/api/tickets/{number}/comments", to_json({"text": cut(text, MAX_TEXT)}))


def cut(text: str, room: int) -> str:
    """At most `room` characters, with a note where some are missing: what an event says may be of any length."""
    return text if len(text) <= room else f"{text[: room - 4]} ..."


def _content(artifact: Artifact) -> Ticket:
    if artifact.type != "ticket":
        raise Rejected(f"acme_tickets makes no artifact {artifact.type!r}; it makes: ticket")
    try:
        return Ticket.model_validate(artifact.content)
    except ValidationError as error:
        raise Rejected(f"ticket: {explain(error)}") from None
