"""Which payload class belongs to which topic.

It answers three questions: what class does this topic have, does this data fit it, and how does data of an older
version become today's. A topic nobody defined may carry any JSON object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, cast

from pydantic import JsonValue, TypeAdapter, ValidationError

from eventbus.errors import InvalidEvent, UnknownVersion
from eventbus.event import Data, Event
from eventbus.pattern import check_topic, is_wildcard
from eventbus.payload import Payload, forget, newest, versions_of

MAX_REPORTED_FIELDS = 5
MAX_PLACE = 200

_untyped = TypeAdapter(dict[str, JsonValue])


@cache
def _envelope_of(body: type) -> type[Event[Any]]:
    """`Event[body]`, made once: making a generic model takes milliseconds."""
    return Event.__class_getitem__(dict[str, JsonValue] if body is dict else body)  # type: ignore[return-value]


class Catalog:
    """What is known about topics."""

    def __iter__(self) -> Iterator[type[Payload]]:
        """The newest class of each topic, by topic."""
        return newest()

    def remove(self, cls: type[Payload]) -> None:
        """Forget a payload class, for tests that define one."""
        forget(cls)

    def find(self, topic: str) -> type[Payload] | None:
        """The newest payload class for the topic: its own, else its family's, else None."""
        versions = versions_of(topic)
        return versions[max(versions)] if versions else None

    def event(
        self, what: Payload | Event[Any] | str, data: Mapping[str, Any] | Payload | None = None, **envelope: Any
    ) -> Event[Any]:
        """Make an event: of a payload, of a topic and its data, or an Event as it is.

        `envelope` takes the other fields of `Event`. Raises InvalidEvent naming each field that does not fit.
        """
        if isinstance(what, Event):
            if data is not None or envelope:
                raise TypeError("an Event is complete: change it with model_copy before publishing it")
            return what
        if isinstance(what, Payload):
            if is_wildcard(type(what).__topic__):
                raise InvalidEvent(
                    f"{type(what).__name__} serves many topics ({type(what).__topic__}): name one before it"
                )
            topic, payload = type(what).__topic__, cast("Data", what)
        else:
            topic, payload = what, self._body(what, {} if data is None else data)
        if isinstance(payload, Payload):
            envelope.setdefault("key", payload.ordering_key())
            envelope.setdefault("version", type(payload).__payload_version__)
        try:
            return _envelope_of(type(payload))(topic=topic, data=payload, **envelope)
        except ValidationError as error:
            raise InvalidEvent(f"{topic}: {explain(error)}") from None

    def _body(self, topic: str, data: Mapping[str, Any] | Payload) -> Data:
        check_topic(topic)
        cls = self.find(topic)
        if isinstance(data, Payload):
            if cls is not None and not isinstance(data, cls):
                raise InvalidEvent(f"{topic} carries {cls.__name__}, not {type(data).__name__}")
            return data
        try:
            return _untyped.validate_python(data) if cls is None else cls.model_validate(data)
        except ValidationError as error:
            raise InvalidEvent(f"{topic}: {explain(error)}") from None

    def typed(self, topic: str, version: int) -> tuple[type[Event[Any]], tuple[type[Payload], ...]]:
        """The event class to decode this topic with, and the classes whose `upcast` its data must pass first.

        Raises UnknownVersion when the version is newer than any known class.
        """
        versions = versions_of(topic)
        if not versions:
            return _envelope_of(dict), ()
        known = max(versions)
        if version > known:
            raise UnknownVersion(f"{topic} has payload version {version}; this program knows {known}: upgrade it")
        return _envelope_of(versions[known]), tuple(versions[v] for v in sorted(versions) if v > version)


def explain(error: ValidationError) -> str:
    """A validation error as one line that names each field, without the values (they may be secret)."""
    faults = [
        f"{'.'.join(map(str, fault['loc']))[:MAX_PLACE] or 'data'}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    more = len(faults) - MAX_REPORTED_FIELDS
    return "; ".join(faults[:MAX_REPORTED_FIELDS]) + (f"; and {more} more" if more > 0 else "")


catalog = Catalog()
"""The catalogue of this process: every payload class that was defined in it."""
