"""Which payload class belongs to which topic.

The catalogue fills itself: defining a payload class adds it. It answers three questions: what class does this topic
have, does this data fit it, and how does data of an older version become today's. A topic nobody defined may carry
any JSON object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, cast

from pydantic import JsonValue, TypeAdapter, ValidationError

from eventbus.errors import InvalidEvent, UnknownVersion
from eventbus.event import Data, Event, Payload
from eventbus.pattern import check_pattern, check_topic, is_wildcard, matches

MAX_REPORTED_FIELDS = 5

_untyped = TypeAdapter(dict[str, JsonValue])


@cache
def _envelope_of(body: type) -> type[Event[Any]]:
    """`Event[body]`, made once: making a generic model takes milliseconds."""
    return Event.__class_getitem__(dict[str, JsonValue] if body is dict else body)  # type: ignore[return-value]


class Catalog:
    """Topic (or family of topics) and version to payload class."""

    def __init__(self) -> None:
        self._classes: dict[str, dict[int, type[Payload]]] = {}
        self._found: dict[str, dict[int, type[Payload]]] = {}

    def add(self, cls: type[Payload]) -> None:
        """Add a payload class under its own topic and version; TypeError when another class is there already."""
        check_pattern(cls.__topic__)
        versions = self._classes.setdefault(cls.__topic__, {})
        old = versions.get(cls.__payload_version__)
        if old is not None and (old.__module__, old.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(
                f"topic {cls.__topic__} version {cls.__payload_version__} is defined by "
                f"{old.__module__}.{old.__qualname__}: import that class, "
                f"or give {cls.__qualname__} a topic or a version of its own"
            )
        versions[cls.__payload_version__] = cls
        self._found.clear()

    def remove(self, cls: type[Payload]) -> None:
        """Forget a payload class, for tests that define one."""
        self._classes.get(cls.__topic__, {}).pop(cls.__payload_version__, None)
        self._found.clear()

    def __iter__(self) -> Iterator[type[Payload]]:
        """The newest class of each topic, by topic."""
        for _, versions in sorted(self._classes.items()):
            if versions:
                yield versions[max(versions)]

    def find(self, topic: str) -> type[Payload] | None:
        """The newest payload class for the topic: its own, else its family's, else None."""
        versions = self._versions(topic)
        return versions[max(versions)] if versions else None

    def _versions(self, topic: str) -> dict[int, type[Payload]]:
        found = self._found.get(topic)
        if found is None:
            found = self._classes.get(topic) or next(
                (v for pattern, v in self._classes.items() if v and is_wildcard(pattern) and matches(pattern, topic)),
                {},
            )
            if len(self._found) < 10_000:  # a memo, bounded: topics come from outside
                self._found[topic] = found
        return found

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
        versions = self._versions(topic)
        if not versions:
            return _envelope_of(dict), ()
        newest = max(versions)
        if version > newest:
            raise UnknownVersion(f"{topic} has payload version {version}; this program knows {newest}: upgrade it")
        return _envelope_of(versions[newest]), tuple(versions[v] for v in sorted(versions) if v > version)


def explain(error: ValidationError) -> str:
    """A validation error as one line that names each field, without the values (they may be secret)."""
    faults = [
        f"{'.'.join(str(part) for part in fault['loc']) or 'data'}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    more = len(faults) - MAX_REPORTED_FIELDS
    return "; ".join(faults[:MAX_REPORTED_FIELDS]) + (f"; and {more} more" if more > 0 else "")


catalog = Catalog()
"""The catalogue of this process. Payload classes add themselves to it when they are defined."""
