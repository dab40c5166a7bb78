"""What PutMetricData is sent of an event: its readings as data of metrics. Pure.

The request is written in AWS JSON 1.0, one of the protocols of CloudWatch's service model (botocore,
cloudwatch/2010-08-01): it can be read by people, and its size is what it looks like.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import JsonValue
from pydantic_core import to_json

from eventbus.event import Event
from integrations.cloudwatch.config import MAX_VALUE, CloudWatchConfig
from integrations.errors import Rejected
from integrations.measure import Reading, read, unread

MAX_BYTES = 1_000_000
"""PutMetricData: "Each PutMetricData request is limited to 1 MB in size for HTTP POST requests"."""
LARGEST = 2.0**360
"""The same: "Values must be in the range of -2^360 to 2^360"."""
OLDEST = timedelta(weeks=2)
NEWEST = timedelta(hours=2)
"""The same: "as much as two weeks before the current date, and as much as 2 hours after"."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `missing`: what was not measured, and why, for people."""

    readings: tuple[Reading, ...]
    content: bytes
    missing: tuple[str, ...] = ()

    @property
    def doing(self) -> str:
        """In words."""
        return "put " + ", ".join(one.name for one in self.readings)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Nothing is sent, and why."""

    why: str


def call_for(event: Event[Any], config: CloudWatchConfig, now: datetime) -> Call | Skipped:
    """The request for an event. Raises Rejected for one that CloudWatch would refuse."""
    readings, missing = read(config.active, event), unread(config.active, event)
    if not readings:
        return Skipped("; ".join(missing) or f"no measure asks for {event.topic}")
    if not now - OLDEST <= event.time <= now + NEWEST:
        raise Rejected(
            f"it is of {event.time:%Y-%m-%d %H:%M} UTC, and CloudWatch takes data from 2 weeks ago to 2 hours ahead"
        )
    data: list[JsonValue] = [_datum(one, event.time, config) for one in readings]
    content = to_json({"Namespace": config.namespace, "MetricData": data})
    if len(content) > MAX_BYTES:
        raise Rejected(
            f"{len(content):,} bytes of metrics, and CloudWatch takes 1 MB: use fewer measures or dimensions"
        )
    return Call(readings, content, missing)


def probe(config: CloudWatchConfig) -> bytes:
    """A request that puts nothing: who we are and what we may is looked at before it is found to be empty."""
    return to_json({"Namespace": config.namespace, "MetricData": []})


def _datum(reading: Reading, at: datetime, config: CloudWatchConfig) -> dict[str, JsonValue]:
    """API Reference, MetricDatum. A dimension of which the event says nothing is left out: an empty one is refused."""
    if not math.isfinite(reading.value) or abs(reading.value) > LARGEST:
        raise Rejected(f"{reading.name}: {reading.value:g} is beyond what CloudWatch takes, -2^360 to 2^360")
    found: Mapping[str, str] = {name: plain(value) for name, value in reading.labels.items()} | config.dimensions
    dimensions: list[JsonValue] = [{"Name": name, "Value": value} for name, value in found.items() if value]
    return {
        "MetricName": reading.name,
        "Dimensions": dimensions,
        "Timestamp": round(at.timestamp(), 3),
        "Value": reading.value,
        "Unit": reading.measure.unit or "None",
        "StorageResolution": config.resolution,
    }


def plain(text: str) -> str:
    """In printable ASCII, as a dimension's value has to be: accents are dropped, what has no such form becomes `?`."""
    bare = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    ascii_ = "".join(one if " " <= one <= "~" else "?" for one in bare)
    return ascii_[:MAX_VALUE].strip()
