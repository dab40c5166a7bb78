"""What can go wrong on the bus, one class for each thing a caller can do about it.

EventBusError
├── InvalidEvent       the event is malformed: correct it; nothing was stored
├── UnknownVersion     a newer program wrote this event: upgrade this one; the event stays where it is
├── Conflict           this idempotency key was used for another content; nothing was stored
├── Misconfigured      the set-up can't work as it stands
│   └── UnknownGroup       no group of this name is declared
├── BacklogGrew        more would be thrown away than was agreed to: look again; nothing was
└── Unavailable        Redis did not do what was asked; the same call may succeed later
    ├── OutcomeUnknown     it may or may not have been done: repeating the call is safe
    └── Full               Redis refuses to store more: wait, or make room
"""

from __future__ import annotations


class EventBusError(Exception):
    """The root of everything this package raises on purpose."""


class InvalidEvent(EventBusError):
    """The event does not fit its topic; the text names the field. Never worth repeating unchanged."""


class UnknownVersion(EventBusError):
    """The event's payload has a version this program has no class for."""


class Conflict(EventBusError):
    """The idempotency key is taken by an event with another content. Nothing was stored."""


class Misconfigured(EventBusError):
    """An address, option or installation that no amount of waiting will mend."""


class UnknownGroup(Misconfigured):
    """No durable group of this name is declared: a wrong name, or it was retired."""


class BacklogGrew(EventBusError):
    """A group has more unhandled deliveries than the caller was shown. Nothing was retired.

    backlog  how many it has now
    """

    def __init__(self, text: str, backlog: int) -> None:
        super().__init__(text)
        self.backlog = backlog


class Unavailable(EventBusError):
    """Redis is away, loading, read-only or refusing. Surely not done; the same call may work later."""


class OutcomeUnknown(Unavailable):
    """The connection broke after the request may have left. Repeat the call: the idempotency key makes it safe."""


class Full(Unavailable):
    """Redis has no memory or disk left for new events. Deliveries still settle, which makes room."""
