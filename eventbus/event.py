"""What an event is: the frozen envelope around a payload.

Nothing here does I/O. Ids and times are made when an event is made, before anything is sent, so that a repeated send is
recognised.
"""

from __future__ import annotations

import os
import time as _time
import uuid
from datetime import UTC, datetime
from typing import Annotated, Generic

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, SerializeAsAny
from typing_extensions import TypeVar

from eventbus.pattern import check_topic
from eventbus.payload import Payload

Data = Payload | dict[str, JsonValue]
"""An event's body: a typed payload, or for a topic outside the catalogue any JSON object."""

P = TypeVar("P", bound=Data, default=Data, covariant=True)


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is outside the years 1 to 9999 in UTC") from None


def new_id() -> str:
    """A UUIDv7 (RFC 9562, section 5.7): its text sorts by the time of its making, to the millisecond."""
    value = (_time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def _now() -> datetime:
    return datetime.now(UTC)


Topic = Annotated[str, AfterValidator(check_topic)]
Short = Annotated[str, Field(min_length=1, max_length=500)]


class Event(BaseModel, Generic[P]):
    """One fact that happened. `Event[VmCreated]` is an event whose `data` is a `VmCreated`.

    id               UUIDv7, unless the source has an id of its own
    topic            what kind of fact; CloudEvents calls it `type`
    source           who says so: a URI reference such as `/cli` or `https://github.com/acme/api`
    time             when it happened, aware, kept in UTC
    subject          what it is about, within the source
    key              ordering key: events with equal key are handled in publish order
    idempotency_key  publishing twice with the same one stores one event; default: the id
    correlation_id   shared by all events of one undertaking
    causation_id     the id of the event this one follows from
    traceparent      W3C Trace Context, version 00
    version          of the payload
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    # How it came to be stands first, what it says last: see `codec.fingerprint`.
    id: Short = Field(default_factory=new_id)
    source: Short = "/"
    time: Annotated[AwareDatetime, AfterValidator(_utc)] = Field(default_factory=_now)
    idempotency_key: Short = ""
    correlation_id: Short | None = None
    causation_id: Short | None = None
    traceparent: Annotated[str, Field(pattern=r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")] | None = None
    topic: Topic
    subject: Short | None = None
    key: Short | None = None
    version: Annotated[int, Field(ge=1)] = 1
    data: SerializeAsAny[P]

    def model_post_init(self, context: object, /) -> None:
        if not self.idempotency_key:
            object.__setattr__(self, "idempotency_key", self.id)  # frozen for everybody else
