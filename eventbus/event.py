"""What an event is: an immutable fact with a typed payload.

`Payload` is the base of the typed bodies; a subclass names its topic and so is the topic's schema. `Event` is the
envelope around one. Both are frozen. Nothing here does I/O; ids and times are made when an event is made, before
anything is sent, so that a repeated send is recognised.
"""

from __future__ import annotations

import os
import time as _time
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Generic

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, SerializeAsAny
from typing_extensions import TypeVar

from eventbus.pattern import check_topic


class Payload(BaseModel):
    """Base of typed payloads: `class VmCreated(Payload, topic="vm.created", key="vm_id")`.

    topic    the topic, or for a family of topics a pattern (`github.>`)
    key      the field whose value orders events: events with equal key are handled one after another
    version  raised when the fields change; `upcast` then turns the data of version n-1 into this one's

    Fields that a newer program added are kept, so that reading and writing again loses nothing. An abstract base
    names no topic.
    """

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_timedelta="float")

    __topic__: ClassVar[str]
    __key_field__: ClassVar[str | None] = None
    __payload_version__: ClassVar[int] = 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__()  # the arguments are for the hook below, which runs when the fields are known

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, topic: str | None = None, key: str | None = None, version: int = 1, **kwargs: Any
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if topic is None:
            return
        from eventbus.catalog import catalog

        if key is not None and key not in cls.model_fields:
            raise TypeError(f"{cls.__name__}: key={key!r} is not one of its fields: {', '.join(cls.model_fields)}")
        cls.__topic__, cls.__key_field__, cls.__payload_version__ = topic, key, version
        catalog.add(cls)

    @classmethod
    def upcast(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Turn the data of version n-1 into this version's. Override it when `version` is raised."""
        return data

    @classmethod
    def example(cls) -> Payload | None:
        """A realistic instance for docs, tests and rehearsals, or None where the class offers none."""
        return None

    def ordering_key(self) -> str | None:
        """`field:value` of the key field; None when this payload has no order."""
        if self.__key_field__ is None:
            return None
        value = getattr(self, self.__key_field__)
        return None if value is None else f"{self.__key_field__}:{value}"


Data = Payload | dict[str, JsonValue]
"""An event's body: a typed payload, or for a topic outside the catalogue any JSON object."""

P = TypeVar("P", bound=Data, default=Data, covariant=True)


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


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

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Short = Field(default_factory=new_id)
    topic: Topic
    source: Short = "/"
    time: Annotated[AwareDatetime, AfterValidator(_utc)] = Field(default_factory=_now)
    subject: Short | None = None
    data: SerializeAsAny[P]
    key: Short | None = None
    idempotency_key: Short = ""
    correlation_id: Short | None = None
    causation_id: Short | None = None
    traceparent: Annotated[str, Field(pattern=r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")] | None = None
    version: Annotated[int, Field(ge=1)] = 1

    def model_post_init(self, context: object, /) -> None:
        if not self.idempotency_key:
            object.__setattr__(self, "idempotency_key", self.id)  # frozen for everybody else
