"""The forms in which an event may be sent over REST, as JSON schemas: ours, CloudEvents 1.0, and a batch.

Made from `Event`, the payloads of the catalogue, and the fields that `api` takes. They are for people and generators of
clients, so which data belongs to which topic is said in words: few tools know `if` and `then`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import JsonValue
from pydantic.json_schema import GenerateJsonSchema

from eventbus import Event, Payload
from eventbus.codec import CLOUD_NAMES
from eventbus.pattern import MAX_TOPIC_LENGTH, TOPIC, is_wildcard, matches_any
from service.gateway.api import BATCH_TYPE, ENVELOPE, MAX_BATCH, RESERVED

CLOUD_TYPE = "application/cloudevents+json"
"""CloudEvents, JSON event format 1.0.2, section 3."""

Schema = dict[str, Any]

_MEANING = {
    "id": "A new UUIDv7 unless the source has an id of its own",
    "source": "Who says so, a URI reference such as `/ci` or `https://github.com/acme/api`",
    "time": "When it happened, with its zone; now, unless it is said",
    "subject": "What it is about, within the source",
    "key": "Events with equal key are handled in publish order; a standard topic has its own",
    "idempotency_key": "Publishing twice with the same one stores one event; the id, unless it is said",
    "correlation_id": "Shared by all events of one undertaking",
    "causation_id": "The id of the event this one follows from",
    "traceparent": "W3C Trace Context, version 00",
}


class Untitled(GenerateJsonSchema):
    """Without the titles of fields, which are their names in other letters."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def part(name: str) -> Schema:
    """A reference to a part of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def parts(catalog: Iterable[type[Payload]]) -> dict[str, Schema]:
    """The schemas of all forms and of the payloads that may be sent, by their names in the document."""
    payloads = [one for one in catalog if not is_wildcard(one.__topic__) and not matches_any(RESERVED, one.__topic__)]
    return {
        "Event": _event(),
        "CloudEvent": _cloud_event(),
        "Batch": {"type": "array", "maxItems": MAX_BATCH, "items": {"anyOf": [part("Event"), part("CloudEvent")]}},
        "StoredBatch": {"type": "array", "maxItems": MAX_BATCH, "items": part("Stored")},
        "Data": {
            "description": "Of a standard topic as `data.TOPIC` says, else any object; checked by the topic",
            "anyOf": [*(part(f"data.{one.__topic__}") for one in payloads), {"type": "object"}],
        },
        **{name: schema for one in payloads for name, schema in _payload(one)},
    }


def _event() -> Schema:
    """`api._plain` and `api._due` read it."""
    topic = _topic() | {"description": "What kind of fact; `topic` and `type` are the same, give one of them"}
    fields = {name: schema | {"description": _MEANING[name]} for name, schema in _envelope(ENVELOPE)}
    due = {
        "type": "string",
        "format": "date-time",
        "description": "When to publish it, with its zone",
    }
    return {
        "type": "object",
        "description": "An event in our own form",
        "properties": {"type": topic, "topic": topic, "data": part("Data"), "at": due, **fields},
        "additionalProperties": False,
        "oneOf": [{"required": ["type"]}, {"required": ["topic"]}],
    }


def _cloud_event() -> Schema:
    """`codec.from_cloudevent` reads it."""
    fields = {CLOUD_NAMES.get(name, name): schema for name, schema in _envelope((*ENVELOPE, "version"))}
    constant = {"specversion": {"const": "1.0"}, "datacontenttype": {"const": "application/json"}}
    return {
        "type": "object",
        "description": "CloudEvents 1.0, JSON event format 1.0.2. Attributes of which we know nothing are refused",
        "properties": {**constant, "type": _topic(), "data": part("Data"), **fields},
        "required": ["specversion", "id", "source", "type"],
        "additionalProperties": False,
    }


def _topic() -> Schema:
    return {"type": "string", "pattern": f"^{TOPIC.pattern}$", "maxLength": MAX_TOPIC_LENGTH}


def _envelope(names: Iterable[str]) -> Iterator[tuple[str, Schema]]:
    """These fields of `Event`; one that may be null may as well be left out, and is told so."""
    known = Event[dict[str, JsonValue]].model_json_schema()["properties"]
    for name in names:
        schema = {key: value for key, value in known[name].items() if key not in ("title", "default")}
        yield name, next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)


def _payload(payload: type[Payload]) -> Iterator[tuple[str, Schema]]:
    prefix = f"data.{payload.__topic__}"
    schema = payload.model_json_schema(
        schema_generator=Untitled, ref_template=f"#/components/schemas/{prefix}.{{model}}"
    )
    for name, inner in schema.pop("$defs", {}).items():
        yield f"{prefix}.{name}", inner
    yield prefix, schema


EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "application/json": {
        "event": {"type": "vm.created", "data": {"vm_id": "vm-1"}},
        "later": {"type": "custom.reminder", "data": {"text": "look"}, "at": "2126-01-12T09:00:00Z"},
    },
    CLOUD_TYPE: {
        "build": {
            "specversion": "1.0",
            "id": "build-118",
            "source": "/ci",
            "type": "task.completed",
            "data": {"task_id": "118"},
        }
    },
    BATCH_TYPE: {
        "machine": [
            {"type": "vm.created", "id": "vm-1-made", "data": {"vm_id": "vm-1"}},
            {"type": "vm.started", "id": "vm-1-runs", "data": {"vm_id": "vm-1"}},
        ]
    },
}
"""Of what is sent to publish, by media type."""
