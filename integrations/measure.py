"""What an event measures: a measure says which topics count, what number of the event, and by which labels. Pure.

The adapters that hand numbers on (prometheus, datadog, cloudwatch) have measures in their settings, and defaults of
their own in the names their services are used to. `read` makes readings of an event; how a reading is written, counted
and sent is the adapter's business.

A number or label is found by a path: `data.duration_ms` and deeper fields, `data.hosts.0.load`. A label may also be
`topic`, a word of it (`topic.2`, counted from 1), or a text of its own (`=checkout`). Both may be chosen by topic:
`{migration.completed: success, "migration.*": other}`, `{integration.degraded: 1, integration.recovered: 0}`; the first
pattern that selects the topic wins.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from eventbus.event import Event
from eventbus.pattern import matches, matches_any
from eventbus.payload import Payload
from integrations.fields import Pattern

T = TypeVar("T")

MOST = 2.0**53
"""A number that is added up is at most this large. IEEE 754, binary64: above it whole numbers are skipped, so that a
sum which holds one such number no longer counts by one, and it stands in Redis for good."""
MAX_LABEL = 200
"""Characters of a label's value. Our own: what events say must not fill the memory of who counts them."""

_DATA = re.compile(r"data(?:\.[A-Za-z0-9_-]+)+")
_WORD = re.compile(r"topic(?:\.[1-9][0-9]?)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def _number_path(value: str) -> str:
    if not _DATA.fullmatch(value):
        raise ValueError("is no path to a number: write it as data.duration_ms")
    return value


def _label_source(value: str) -> str:
    if not (value.startswith("=") or _DATA.fullmatch(value) or _WORD.fullmatch(value)):
        raise ValueError("says no label's value: write data.environment, topic, topic.2 or =text, or choose by topic")
    return value


LabelSource = Annotated[str, AfterValidator(_label_source)] | dict[Pattern, str]
NumberSource = Annotated[str, AfterValidator(_number_path)] | dict[Pattern, float]


class Measure(BaseModel):
    """One measure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200, description="What it is called at the service")
    type: Literal["counter", "gauge", "histogram"] = Field(
        description="counter: added up; gauge: the newest counts; histogram: how values are spread"
    )
    topics: tuple[Pattern, ...] = Field(min_length=1, description="Topics, or patterns, whose events are measured")
    value: NumberSource | None = Field(
        default=None,
        description="Where the number is, such as data.duration_ms, or a table of topic pattern to number; "
        "a counter without one counts events",
    )
    scale: float = Field(
        default=1, gt=0, allow_inf_nan=False, description="The number is multiplied by it: 0.001 makes seconds of ms"
    )
    labels: dict[str, LabelSource] = Field(
        default_factory=dict,
        max_length=30,
        description="By name: data.environment, topic, topic.2, =text, or a table of topic pattern to text",
    )
    buckets: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Field(
        default=(), max_length=100, description="Upper bounds of a histogram's buckets, rising"
    )
    help: str = Field(default="", max_length=500, description="One sentence for people")
    unit: str = Field(default="", max_length=50, description="Of the number after scale, as the service names it")

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if self.value is None and self.type != "counter":
            raise ValueError(f"is a {self.type} and needs value, such as data.duration_ms")
        if self.buckets and self.type != "histogram":
            raise ValueError(f"is a {self.type}: only a histogram has buckets")
        if any(low >= high for low, high in zip(self.buckets, self.buckets[1:], strict=False)):
            raise ValueError("has buckets that do not rise")
        return self


@dataclass(frozen=True, slots=True)
class Reading:
    """What one measure says of one event.

    value   finite, scaled; from 0 to MOST for a counter or a histogram, whose values are added up
    labels  one value for each label of the measure, in its order; empty: the event does not say
    """

    measure: Measure
    value: float
    labels: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.measure.name

    @property
    def type(self) -> Literal["counter", "gauge", "histogram"]:
        return self.measure.type


def read(measures: Sequence[Measure], event: Event[Any]) -> tuple[Reading, ...]:
    """What the measures say of the event, in their order; nothing where its number is missing, none, or absurd."""
    asked = asked_by(measures, event)
    data = _plain(event) if asked else {}
    return tuple(
        Reading(measure, value, {name: _label(source, event.topic, data) for name, source in measure.labels.items()})
        for measure in asked
        if not isinstance(value := _value(measure, event.topic, data), str)
    )


def unread(measures: Sequence[Measure], event: Event[Any]) -> tuple[str, ...]:
    """For people: the measures that ask for the event and get no reading of it, each with the reason."""
    asked = asked_by(measures, event)
    data = _plain(event) if asked else {}
    return tuple(f"{one.name}: {why}" for one in asked if isinstance(why := _value(one, event.topic, data), str))


def asked_by(measures: Sequence[Measure], event: Event[Any]) -> tuple[Measure, ...]:
    """The measures whose topics select the event."""
    return tuple(measure for measure in measures if matches_any(measure.topics, event.topic))


def chosen(built_in: Sequence[Measure], own: Sequence[Measure]) -> tuple[Measure, ...]:
    """Those built in, then one's own; of the same name the own one counts."""
    given = {one.name for one in own}
    return (*(one for one in built_in if one.name not in given), *own)


def topics_of(measures: Sequence[Measure]) -> tuple[str, ...]:
    """Every topic pattern that one of the measures asks for, each once."""
    return tuple(dict.fromkeys(pattern for measure in measures for pattern in measure.topics))


def _plain(event: Event[Any]) -> Mapping[str, JsonValue]:
    data = event.data
    return data.model_dump(mode="json") if isinstance(data, Payload) else data


def _at(path: str, data: Mapping[str, JsonValue]) -> JsonValue:
    """The value at `data.a.b`; a number steps into a list. None where there is none."""
    here: Any = data
    for word in path.split(".")[1:]:
        if isinstance(here, Mapping):
            here = here.get(word)
        elif isinstance(here, list) and word.isdecimal() and int(word) < len(here):
            here = here[int(word)]
        else:
            return None
    found: JsonValue = here
    return found


def _value(measure: Measure, topic: str, data: Mapping[str, JsonValue]) -> float | str:
    """The scaled number, or in words why there is none."""
    source = measure.value
    found = _chosen(source, topic) if isinstance(source, dict) else 1 if source is None else _at(source, data)
    missing = f"no number at {source}" if isinstance(source, str) else "no number for this topic"
    if isinstance(found, bool) or not isinstance(found, int | float):
        return missing
    try:
        value = float(found) * measure.scale
    except OverflowError:  # an integer beyond what a float can hold
        return missing
    if not math.isfinite(value):
        return missing
    if measure.type != "gauge" and not 0 <= value <= MOST:
        return f"{value:g} can't be added up: a {measure.type} takes 0 to {MOST:g}"
    return value


def _chosen(by_topic: Mapping[str, T], topic: str) -> T | None:
    return next((one for pattern, one in by_topic.items() if matches(pattern, topic)), None)


def _label(source: str | dict[str, str], topic: str, data: Mapping[str, JsonValue]) -> str:
    if isinstance(source, dict):
        return _clean(_chosen(source, topic) or "")
    if source.startswith("="):
        return _clean(source[1:])
    if source == "topic":
        return _clean(topic)
    if source.startswith("topic."):
        words, place = topic.split("."), int(source.removeprefix("topic."))
        return _clean(words[place - 1]) if place <= len(words) else ""
    return _clean(_text(_at(source, data)))


def _text(value: JsonValue) -> str:
    """A scalar in words; lists and tables are no labels."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else ""


def _clean(text: str) -> str:
    """One line of at most MAX_LABEL characters, without what can't be shown or encoded."""
    return _CONTROL.sub(" ", text).strip()[:MAX_LABEL].rstrip()
