"""Event, notification or artifact in, request out. Pure: the same input gives the same bytes on every attempt.

That matters: a service that knows a repeat by its key refuses the key with another body.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from acme_tickets.config import Priority, TicketsConfig
from eventbus.event import Event
from eventbus.topics import TaskFailed
from integrations.base import Notification
from integrations.errors import Rejected

MAX_TITLE = 200
"""Acme Tickets API, "Limits": a title has 200 characters at most."""

_TICKET_ID = re.compile(r"T-[0-9]{1,9}")


class Ticket(BaseModel):
    """The content of an artifact of type `ticket`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = Field(min_length=1, max_length=MAX_TITLE, description="One line")
    text: str = Field(default="", description="What happened")
    priority: Priority = Field(default="normal", description="low, normal or urgent")


@dataclass(frozen=True, slots=True)
class Request:
    """A POST: where to, below `base_url`, and what."""

    path: str
    body: dict[str, str]


def failed_task(event: Event[TaskFailed], config: TicketsConfig) -> Request:
    """The ticket for a failed task."""
    data = event.data
    title = f"{data.name or data.task_id} failed"
    facts = {"Task": data.task_id, "Environment": data.environment, "Pull request": data.pull_request}
    lines = [data.error, *(f"{name}: {value}" for name, value in facts.items() if value)]
    return ticket(Ticket(title=title[:MAX_TITLE], text="\n".join(lines), priority=config.priority), config.queue)


def ticket(content: Ticket, queue: str) -> Request:
    """The ticket for an artifact."""
    return Request("/api/tickets", {"queue": queue, **content.model_dump()})


def comment(notification: Notification) -> Request:
    """The comment for a notification; its target names the ticket, such as T-7. Raises Rejected."""
    if not _TICKET_ID.fullmatch(notification.target):
        raise Rejected("a notification's target is the number of a ticket, such as T-7")
    title = [notification.title] if notification.title else []
    facts = [f"{name}: {value}" for name, value in notification.fields.items()]
    url = [notification.url] if notification.url else []
    text = "\n".join([*title, notification.message, *facts, *url])
    return Request(f"/api/tickets/{notification.target}/comments", {"text": text})
