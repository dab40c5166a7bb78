"""A typed event bus on Redis: publish once, every subscription acts on it, in order."""

from eventbus import topics as topics  # puts the standard topics into the catalogue
from eventbus.backoff import Backoff
from eventbus.bus import EventBus
from eventbus.catalog import catalog
from eventbus.dead import DeadLetter
from eventbus.errors import (
    BacklogGrew,
    Conflict,
    EventBusError,
    Full,
    InvalidEvent,
    Misconfigured,
    OutcomeUnknown,
    Unavailable,
    UnknownGroup,
    UnknownVersion,
)
from eventbus.event import Event
from eventbus.payload import Payload
from eventbus.publisher import Receipt
from eventbus.replay import Replayed
from eventbus.subscription import Attempt, Options, Refused, TryLater
from eventbus.sync import SyncPublisher

__all__ = [
    "Attempt",
    "BacklogGrew",
    "Backoff",
    "Conflict",
    "DeadLetter",
    "Event",
    "EventBus",
    "EventBusError",
    "Full",
    "InvalidEvent",
    "Misconfigured",
    "Options",
    "OutcomeUnknown",
    "Payload",
    "Receipt",
    "Refused",
    "Replayed",
    "SyncPublisher",
    "TryLater",
    "Unavailable",
    "UnknownGroup",
    "UnknownVersion",
    "catalog",
]
