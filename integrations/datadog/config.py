"""The settings of one Datadog account: which way things go there, what events measure, which of them are shown as such.

What Datadog would drop or rewrite without a word is refused here: names, tags, addresses. Secrets are SecretStr, and no
validation error repeats what was given.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from integrations.fields import Pattern, Secret, Text, check_address
from integrations.measure import LabelSource, Measure, chosen

MEASURES = (
    Measure(
        name="confiture.migrations.completed",
        type="counter",
        topics=("migration.completed",),
        labels={"env": "data.environment", "migration": "data.migration"},
    ),
    Measure(
        name="confiture.migrations.failed",
        type="counter",
        topics=("migration.failed",),
        labels={"env": "data.environment", "migration": "data.migration"},
    ),
    Measure(
        name="confiture.migrations.duration",
        type="histogram",
        topics=("migration.completed",),
        value="data.duration_ms",
        labels={"env": "data.environment"},
        unit="millisecond",
    ),
    Measure(
        name="pg_migration.operation.duration",
        type="histogram",
        topics=("operation.ended",),
        value="data.metrics.duration",
        labels={"operation": "data.metrics.name"},
        unit="millisecond",
    ),
    Measure(
        name="pg_migration.operation.memory",
        type="gauge",
        topics=("operation.ended",),
        value="data.metrics.memory.delta",
        labels={"operation": "data.metrics.name"},
        unit="byte",
    ),
)
EVENT_TAGS: dict[str, LabelSource] = {
    "env": "data.environment",
    "migration": "data.migration",
    "type": "data.type",
    "operation": "data.metrics.name",
}

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,199}")
"""docs.datadoghq.com/metrics/custom_metrics: names start with a letter, hold ASCII alphanumerics, underscores and
periods, and do not exceed 200 characters; anything else is converted."""
TAG = re.compile(r"[^\W\d_][\w:./-]{0,199}")
"""docs.datadoghq.com/getting_started/tagging: tags start with a letter, may then hold alphanumerics, underscores,
minuses, colons, periods and slashes, and have at most 200 characters."""
TAG_NAME = re.compile(r"[^\W\d_][\w./-]{0,99}")

_HOST = re.compile(r"(?!-)[a-z0-9-]+(?:\.[a-z0-9-]+)*")


def _measure(one: Measure) -> Measure:
    if not NAME.fullmatch(one.name):
        raise ValueError(f"{one.name}: a metric is named with letters, digits, _ and ., a letter first")
    if one.buckets:
        raise ValueError(f"{one.name}: has buckets, and Datadog has none: leave them out")
    for label in one.labels:
        _tag_name(label)
    return one


def _tag_name(value: str) -> str:
    if not TAG_NAME.fullmatch(value):
        raise ValueError(f"{value[:50]}: a tag is named with letters, digits, _ - . and /, a letter first, at most 100")
    return value


def _tag(value: str) -> str:
    if not TAG.fullmatch(value):
        raise ValueError("is no tag such as team:database: letters, digits and _ - : . /, a letter first, at most 200")
    return value


def _agent(value: str) -> str:
    """`udp://host:port` or `unix:///path`; a host alone, with or without port, is the former."""
    given = value.removeprefix("unixgram:") if value.startswith("unixgram:") else value
    if given.startswith(("unix://", "///")):
        path = given.removeprefix("unix:").removeprefix("//")
        # unix(7): sun_path has 108 bytes, with the zero at its end.
        if not path.startswith("/") or len(path.encode()) > 107 or "\0" in path:
            raise ValueError("is no socket such as unix:///var/run/datadog/dsd.socket, at most 107 bytes of path")
        return f"unix://{path}"
    parts = urlsplit(given if "://" in given else f"udp://{given}")
    if parts.scheme != "udp" or parts.path or parts.query or parts.fragment or parts.username or not parts.hostname:
        raise ValueError("is no address such as udp://127.0.0.1:8125 or unix:///var/run/datadog/dsd.socket")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"udp://{host}:{parts.port or 8125}"


def _site(value: str) -> str:
    site = value.lower().removeprefix("https://").removeprefix("app.").removeprefix("api.").rstrip("/")
    if not _HOST.fullmatch(site) or "." not in site:
        raise ValueError("is no site such as datadoghq.com, datadoghq.eu or us5.datadoghq.com")
    return site


def _base_address(value: str | None) -> str | None:
    return value and check_address(value, such_as="https://datadog-proxy.example.com", sends="the API key")


class DatadogConfig(BaseModel):
    """One account."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    transport: Literal["dogstatsd", "api"] = Field(
        default="dogstatsd", description="dogstatsd: to an Agent, which answers nothing; api: to Datadog over HTTPS"
    )
    agent: Annotated[str, AfterValidator(_agent)] = Field(
        default="udp://127.0.0.1:8125", description="Of dogstatsd: udp://host:port or unix:///path"
    )
    api_key: Secret = Field(default=None, description="Of api: an API key, not an application key")
    site: Annotated[str, AfterValidator(_site)] = Field(
        default="datadoghq.com", description="Of api: where the account is, such as datadoghq.eu or us5.datadoghq.com"
    )
    base_url: Annotated[Text, AfterValidator(_base_address)] = Field(
        default=None, description="Of api: another address than that of the site, such as a proxy's"
    )
    measures: tuple[Annotated[Measure, AfterValidator(_measure)], ...] = Field(
        default=(), max_length=200, description="More measures, or others in place of those built in by the same name"
    )
    defaults: bool = Field(default=True, description="Whether what is built in is measured: migrations, operations")
    events: tuple[Pattern, ...] = Field(
        default=("performance.threshold.exceeded",), description="Topics whose events are events at Datadog, too"
    )
    event_tags: dict[Annotated[str, AfterValidator(_tag_name)], LabelSource] = Field(
        default=EVENT_TAGS, max_length=30, description="Tags of those, as labels of measures are written"
    )
    tags: tuple[Annotated[str, AfterValidator(_tag)], ...] = Field(
        default=(), max_length=20, description="Tags of everything that is sent, such as team:database"
    )
    host: Annotated[Text, Field(max_length=255, pattern=r"^[A-Za-z0-9.-]+$")] = Field(
        default=None, description="Host that everything is about; default with dogstatsd: the Agent's"
    )

    @model_validator(mode="after")
    def _has_a_key(self) -> Self:
        if self.transport == "api" and self.api_key is None:
            raise ValueError("has transport: api and no api_key: make one under Organization Settings > API Keys")
        return self

    @cached_property
    def active(self) -> tuple[Measure, ...]:
        """Every measure that is asked, those built in first."""
        return chosen(MEASURES if self.defaults else (), self.measures)

    @property
    def url(self) -> str:
        """Where the API is."""
        return self.base_url or f"https://api.{self.site}"

    @property
    def room(self) -> int:
        """Bytes of a datagram. docs.datadoghq.com/developers/dogstatsd/high_throughput: 1,432 for UDP, which fits into
        an Ethernet frame, and 8,192 for a Unix socket, the size of the Agent's buffer."""
        return 8192 if self.agent.startswith("unix://") else 1432
