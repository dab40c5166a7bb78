"""The only reader and writer of events as bytes: the wire of the log, and CloudEvents 1.0 JSON.

On the wire an event is one UTF-8 JSON object. `tests/golden` pins it: a change of it must still read what the last
release wrote.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from eventbus.catalog import catalog, explain
from eventbus.errors import InvalidEvent
from eventbus.event import Event

MAX_EVENT_BYTES = 256 * 1024
SURELY_READABLE_BYTES = 4000  # Python reads integers of up to 4,300 digits
SURELY_READABLE_LEVELS = 150  # pydantic-core reads up to 200 levels

CLOUD_NAMES = {
    "topic": "type",
    "key": "partitionkey",
    "idempotency_key": "idempotencykey",
    "correlation_id": "correlationid",
    "causation_id": "causationid",
    "version": "dataversion",
}
_OPTIONAL = ("subject", "key", "correlation_id", "causation_id", "traceparent")
_EVENT_NAMES = {cloud: name for name, cloud in CLOUD_NAMES.items()}


def encode(event: Event[Any]) -> bytes:
    """The event as it travels. Raises InvalidEvent when it is larger than MAX_EVENT_BYTES or is not JSON.

    What is written can be read: NaN, nesting of 200 levels and numbers of thousands of digits are refused here.
    """
    try:
        wire = event.__pydantic_serializer__.to_json(event, exclude=_absent(event))
        if _is_suspicious(wire):
            from_json(wire, allow_inf_nan=False)
    except ValueError as error:  # pydantic's serialisation errors, lone surrogates among them
        raise InvalidEvent(
            f"{event.topic}: can't be written as JSON (no NaN, fewer than 200 levels): {error}"
        ) from None
    if len(wire) > MAX_EVENT_BYTES:
        raise InvalidEvent(
            f"{event.topic}: the event has {len(wire):,} bytes, {MAX_EVENT_BYTES:,} is the limit: "
            "store the large part elsewhere and publish a reference to it"
        )
    return wire


def _is_suspicious(wire: bytes) -> bool:
    """Whether reading it back could fail: only then is it worth the time. Numbers too long to read are long."""
    return (
        len(wire) > SURELY_READABLE_BYTES
        or (b"N" in wire and b"NaN" in wire)  # looking for one byte costs a third
        or (b"I" in wire and b"Infinity" in wire)
        or wire.count(b"{") + wire.count(b"[") > SURELY_READABLE_LEVELS
    )


def decode(topic: str, wire: bytes | str) -> Event[Any]:
    """The event that `encode` wrote, its data brought to the newest version known here.

    Raises UnknownVersion when a newer program wrote it, InvalidEvent when it does not fit its topic.
    """
    try:
        cls, steps = catalog.typed(topic, 1)
        if not steps:
            with suppress(ValidationError):  # a newer version's data need not fit: see below which version it is
                event = cls.model_validate_json(wire)
                if event.version == 1:
                    return event
        raw = from_json(wire)
        cls, steps = catalog.typed(topic, raw.get("version", 1))
        for step in steps:
            raw["data"] = step.upcast(raw["data"])
            raw["version"] = step.__payload_version__
        return cls.model_validate_json(to_json(raw)) if steps else cls.model_validate_json(wire)
    except ValidationError as error:
        raise InvalidEvent(f"{topic}: {explain(error)}") from None
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InvalidEvent(f"{topic}: not an event: {error}") from None


def fields_of(wire: bytes) -> dict[str, Any]:
    """The fields of an encoded event as they stand, whether or not they fit its topic; none where it is no event."""
    with suppress(ValueError):
        found = from_json(wire)
        if isinstance(found, dict):
            return found
    return {}


def id_of(wire: bytes, place: str) -> str:
    """The id of an encoded event; its place in the log where it has none."""
    found = fields_of(wire).get("id")
    return found if isinstance(found, str) else place


def _absent(event: Event[Any]) -> set[str]:
    """The envelope's empty fields. (exclude_none would drop nulls inside the payload too, which may mean something.)"""
    return {name for name in _OPTIONAL if getattr(event, name) is None}


def fingerprint(wire: bytes) -> str:
    """128 bits of what an encoded event says: topic, subject, key, version and data, not its id or time.

    They stand together at the end of the wire: `Event` declares its fields in this order. Inside a string the quotes of
    a name are escaped, so the first match is the envelope's own field.
    """
    said = wire[wire.index(b',"topic":') :]
    return hashlib.blake2b(said, digest_size=16).hexdigest()


def to_cloudevent(event: Event[Any]) -> dict[str, Any]:
    """The event in the CloudEvents 1.0 JSON format (spec 1.0.2, JSON event format 1.0.2). `from_cloudevent` undoes it.

    What CloudEvents has no attribute for travels as extension attributes: lower-case letters and digits, as its
    section 3.1 asks.
    """
    fields = event.model_dump(mode="json", exclude=_absent(event))
    cloud = {"specversion": "1.0", "datacontenttype": "application/json"}
    cloud.update((CLOUD_NAMES.get(name, name), value) for name, value in fields.items())
    return cloud


def from_cloudevent(cloud: Any) -> Event[Any]:
    """Read a CloudEvents 1.0 JSON object. Raises InvalidEvent naming what is missing or does not fit.

    Extension attributes that we have no field for are refused, not dropped. An attribute that is null counts as absent
    (JSON event format 1.0.2, section 2.2).
    """
    if not isinstance(cloud, dict):
        raise InvalidEvent("a CloudEvent is a JSON object")
    cloud = {str(name): value for name, value in cloud.items() if value is not None}
    strange = sorted(cloud.keys() & CLOUD_NAMES.keys())  # our own names mean something else to whoever wrote them
    if strange:
        raise InvalidEvent(f"{', '.join(strange)}: not attributes we know")
    if cloud.get("specversion") != "1.0":
        raise InvalidEvent(f"specversion: only 1.0 is understood, not {str(cloud.get('specversion'))[:20]!r}")
    if "data_base64" in cloud:
        raise InvalidEvent("data_base64: only JSON data is understood")
    content_type = cloud.get("datacontenttype", "application/json")
    if not isinstance(content_type, str) or content_type.split(";")[0].strip().lower() != "application/json":
        raise InvalidEvent(f"datacontenttype: only application/json is understood, not {str(content_type)[:80]!r}")
    fields = {_EVENT_NAMES.get(name, name): value for name, value in cloud.items()}
    for name in ("specversion", "datacontenttype"):
        fields.pop(name, None)
    missing = [name for name in ("id", "source", "type") if name not in cloud]
    if missing:
        raise InvalidEvent(f"a CloudEvent needs {', '.join(missing)}")
    topic, data = fields.pop("topic"), fields.pop("data", {})
    if not isinstance(topic, str):
        raise InvalidEvent("type: must be a string")
    try:
        return catalog.event(topic, data, **fields)
    except TypeError as error:
        raise InvalidEvent(f"{topic}: {error}") from None
