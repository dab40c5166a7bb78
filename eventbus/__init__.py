"""A typed event bus on Redis: publish once, every subscription acts on it, in order."""

from eventbus import topics as topics  # puts the standard topics into the catalogue
from eventbus.backoff import Backoff
from eventbus.bus import EventBus
from eventbus.catalog import catalog
from eventbus.errors import (
    Conflict,
    EventBusError,
    Full,
    InvalidEvent,
    Misconfigured,
    OutcomeUnknown,
    Unavailable,
    UnknownVersion,
)
from eventbus.event import Event
from eventbus.payload import Payload
from eventbus.publisher import Receipt
from eventbus.subscription import Attempt, Options, Refused, TryLater
from eventbus.sync import SyncPublisher

__all__ = [
    "Attempt",
    "Backoff",
    "Conflict",
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
    "SyncPublisher",
    "TryLater",
    "Unavailable",
    "UnknownVersion",
    "catalog",
]
