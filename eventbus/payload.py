"""Payloads: the typed bodies of events. A subclass names its topic and so is the topic's schema.

Defining a class makes it known under its topic and version; `eventbus.catalog` answers questions about what is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from eventbus.pattern import check_pattern, is_wildcard, matches

MAX_REMEMBERED_TOPICS = 10_000


class Payload(BaseModel):
    """Base of typed payloads: `class VmCreated(Payload, topic="vm.created", key="vm_id")`.

    topic    the topic, or for a family of topics a pattern (`github.>`)
    key      the field whose value orders events: events with equal key are handled one after another
    version  raised when the fields change; `upcast` then turns the data of version n-1 into this one's

    Fields that a newer program added are kept, so that reading and writing again loses nothing. An abstract base
    names no topic.
    """

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_timedelta="float", ser_json_inf_nan="constants")

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
        if key is not None and key not in cls.model_fields:
            raise TypeError(f"{cls.__name__}: key={key!r} is not one of its fields: {', '.join(cls.model_fields)}")
        cls.__topic__, cls.__key_field__, cls.__payload_version__ = topic, key, version
        define(cls)

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


_classes: dict[str, dict[int, type[Payload]]] = {}
_found: dict[str, Mapping[int, type[Payload]]] = {}


def define(cls: type[Payload]) -> None:
    """Make a class known under its topic and version; TypeError when another class is there already."""
    check_pattern(cls.__topic__)
    versions = _classes.setdefault(cls.__topic__, {})
    old = versions.get(cls.__payload_version__)
    if old is not None and (old.__module__, old.__qualname__) != (cls.__module__, cls.__qualname__):
        raise TypeError(
            f"topic {cls.__topic__} version {cls.__payload_version__} is defined by "
            f"{old.__module__}.{old.__qualname__}: import that class, "
            f"or give {cls.__qualname__} a topic or a version of its own"
        )
    versions[cls.__payload_version__] = cls
    _found.clear()


def forget(cls: type[Payload]) -> None:
    """Undo `define`, for tests that define a class."""
    _classes.get(cls.__topic__, {}).pop(cls.__payload_version__, None)
    _found.clear()


def versions_of(topic: str) -> Mapping[int, type[Payload]]:
    """The classes of a topic by version: its own, else its family's, else none."""
    found = _found.get(topic)
    if found is None:
        families = (v for pattern, v in _classes.items() if is_wildcard(pattern) and matches(pattern, topic))
        found = _classes.get(topic) or next((v for v in families if v), {})
        if len(_found) < MAX_REMEMBERED_TOPICS:  # topics come from outside
            _found[topic] = found
    return found


def newest() -> Iterator[type[Payload]]:
    """The newest class of each topic, by topic."""
    for _, versions in sorted(_classes.items()):
        if versions:
            yield versions[max(versions)]
