"""Datadog's API on a real port: what it takes of metrics and events, and what it does with them.

The rules are those of docs.datadoghq.com/api/latest (metrics, events, authentication) and of the pages named beside
them. It is stricter than Datadog, which rewrites odd names and drops points of other times without a word: here names
are refused, and `dropped` tells of the points.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from integrations.testing.fake import FakeService

MAX_BYTES = 512_000
"""Submit metrics: "The maximum payload size is 500 kilobytes (512000 bytes)." """
ALERT_TYPES = ("error", "warning", "info", "success", "user_update", "recommendation", "snapshot")

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,199}")
"""Custom metrics: "Metric names must start with a letter", "must only contain ASCII alphanumerics, underscores, and
periods", "must not exceed 200 characters"."""
TAG = re.compile(r"[^\W\d_][\w\-:./]{0,199}")
"""Getting started with tags: "Tags must start with a letter and after that may contain" alphanumerics, underscores,
minuses, colons, periods, slashes; "Tags can be up to 200 characters long"."""

Series = tuple[str, tuple[str, ...]]


class FakeDatadog(FakeService):
    """`points` are the values of each series by time, `events` what was posted, `dropped` what was taken and lost."""

    api_key = "canary-datadog-api-key-0123456789"

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.points: dict[Series, dict[int, float]] = {}
        self.kinds: dict[str, int] = {}
        self.events: list[dict[str, Any]] = []
        self.dropped: list[str] = []

    def routes(self) -> Sequence[BaseRoute]:
        """The three parts of the API that we use."""
        return [
            Route("/api/v2/series", self._series, methods=["POST"]),
            Route("/api/v1/events", self._event, methods=["POST"]),
            Route("/api/v1/validate", self._validate, methods=["GET"]),
        ]

    def settings(self) -> dict[str, Any]:
        """An account that points here."""
        return {"transport": "api", "base_url": self.url, "api_key": self.api_key}

    def effects(self) -> list[str]:
        """Every point that can be graphed, and every event."""
        points = [
            f"{name}{{{','.join(tags)}}} {value:g} at {at}"
            for (name, tags), values in self.points.items()
            for at, value in values.items()
        ]
        return points + [f"event {event['title']} [{event.get('aggregation_key', '')}]" for event in self.events]

    # -- the API ---------------------------------------------------------------------------------------------------

    async def _validate(self, request: Request) -> Response:
        return JSONResponse({"valid": True}) if self._knows(request) else _forbidden()

    async def _series(self, request: Request) -> Response:
        if not self._knows(request):
            return _forbidden()
        body = await request.body()
        if len(body) > MAX_BYTES:
            return _refused(413, "Payload too large")
        try:
            rows = json.loads(body)["series"]
            faults = [fault for row in rows for fault in check_series(row)]
        except (ValueError, KeyError, TypeError) as error:
            return _refused(400, f"Payload is not in the expected format: {error}")
        if faults or not rows:
            return _refused(400, "; ".join(faults) or "no series")
        for row in rows:
            self._keep(row)
        return JSONResponse({"errors": []}, 202)

    async def _event(self, request: Request) -> Response:
        if not self._knows(request):
            return _forbidden()
        try:
            event = json.loads(await request.body())
            faults = check_event(event)
        except (ValueError, TypeError, AttributeError) as error:
            return _refused(400, f"Payload is not in the expected format: {error}")
        if faults:
            return _refused(400, "; ".join(faults))
        self.events.append(event)
        number = str(6_000_000_000_000_000_000 + len(self.events))
        url = f"https://app.datadoghq.com/event/event?id={number}"
        return JSONResponse({"status": "ok", "event": {"id": int(number), "id_str": number, "url": url}}, 202)

    def _knows(self, request: Request) -> bool:
        """Authentication: "Reporting data requires an API key", in the header DD-API-KEY; 403 without."""
        return not self.reject_credentials and request.headers.get("dd-api-key") == self.api_key

    def _keep(self, row: dict[str, Any]) -> None:
        """What can be graphed of a series.

        Submit metrics, timestamp: "not more than 10 minutes in the future or more than 1 hour in the past".
        Of several points of one series and second the last one stays, of counts, too: vectordotdev/vector#13867, "the
        Datadog metrics intake, in the case of counters, will process these in a last-write win fashion".
        """
        host = [f"host:{one['name']}" for one in row.get("resources", ()) if one["type"] == "host"]
        series = (row["metric"], tuple(sorted([*row.get("tags", ()), *host])))
        for point in row["points"]:
            if -3600 <= point["timestamp"] - time.time() <= 600:
                self.points.setdefault(series, {})[point["timestamp"]] = point["value"]
                self.kinds[row["metric"]] = row["type"]
            else:
                self.dropped.append(f"{row['metric']} at {point['timestamp']}")


def check_series(row: dict[str, Any]) -> list[str]:
    """What is wrong with a series; empty when nothing is."""
    faults = []
    if not NAME.fullmatch(row["metric"]):
        faults.append(f"metric name {row['metric']!r}")
    if row.get("type", 0) not in (0, 1, 2, 3):
        faults.append("type is 0 unspecified, 1 count, 2 rate or 3 gauge")  # MetricIntakeType
    if row.get("type") in (1, 2) and not isinstance(row.get("interval"), int):
        # "If the type of the metric is rate or count, define the corresponding interval in seconds."
        faults.append("a count without interval")
    if not row["points"] or not all(
        isinstance(point["timestamp"], int) and isinstance(point["value"], int | float) for point in row["points"]
    ):
        faults.append("points are objects of a timestamp in whole seconds and a number")
    faults += [f"tag {tag!r}" for tag in row.get("tags", ()) if not TAG.fullmatch(tag)]
    return faults


def check_event(event: dict[str, Any]) -> list[str]:
    """What is wrong with an event; empty when nothing is."""
    faults = []
    if not event.get("title") or not event.get("text"):
        faults.append("title and text are required")
    if len(event.get("text", "")) > 4000:
        faults.append("text: Limited to 4000 characters")
    if len(event.get("aggregation_key", "")) > 100:
        faults.append("aggregation_key: Limited to 100 characters")
    if event.get("alert_type", "info") not in ALERT_TYPES:
        faults.append("alert_type")
    if event.get("priority", "normal") not in ("normal", "low"):
        faults.append("priority")
    happened = event.get("date_happened")
    if happened is not None and (not isinstance(happened, int) or happened < time.time() - 18 * 3600):
        faults.append("date_happened: an integer, Limited to events no older than 18 hours")
    return faults


def _forbidden() -> Response:
    return JSONResponse({"errors": ["Forbidden"]}, 403)


def _refused(status: int, why: str) -> Response:
    return JSONResponse({"errors": [why]}, status)
