"""The settings of one CloudWatch region: whose credentials, which namespace, what events measure.

What CloudWatch refuses is refused here, before the first event: units, names, dimensions. Secrets are SecretStr, and no
validation error repeats what was given.
"""

from __future__ import annotations

import difflib
import re
from functools import cached_property
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from integrations.fields import Secret, Text, check_address
from integrations.measure import Measure, chosen

MEASURES = (
    Measure(
        name="MigrationDuration",
        type="histogram",
        topics=("migration.completed",),
        value="data.duration_ms",
        labels={"Environment": "data.environment", "Migration": "data.migration"},
        unit="Milliseconds",
    ),
    Measure(
        name="MigrationsFailed",
        type="counter",
        topics=("migration.failed",),
        labels={"Environment": "data.environment"},
        unit="Count",
    ),
)

_SIZES = tuple(size + what for what in ("bytes", "bits") for size in ("", "Kilo", "Mega", "Giga", "Tera"))
_PER_SECOND = (*(one.capitalize() for one in _SIZES), "Count")
UNITS = frozenset(
    {"Seconds", "Microseconds", "Milliseconds", "Percent", "None", *_PER_SECOND}
    | {f"{one}/Second" for one in _PER_SECOND}
)
"""API Reference, MetricDatum, Unit: valid values."""

MAX_NAME = 255
MAX_VALUE = 1024
MAX_DIMENSIONS = 30
MAX_METRICS = 1000
"""API Reference: MetricDatum and Dimension (lengths, 30 dimensions), PutMetricData (1000 metrics)."""

_PRINTABLE = re.compile(r"[\x20-\x7e]*[\x21-\x7e][\x20-\x7e]*")
"""Dimension: "must contain only ASCII characters, must include at least one non-whitespace character", and no control
characters. The same is kept to for names of metrics, which CloudWatch does not describe."""
_NAMESPACE = re.compile(r"[0-9A-Za-z.\-_/#: ]{1,255}")
"""User Guide, "Namespaces": alphanumerics, period, hyphen, underscore, slash, hash, colon, space; 255 characters."""
_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2}")
_CHINA = "cn-"


def _measure(one: Measure) -> Measure:
    if not _PRINTABLE.fullmatch(one.name) or len(one.name) > MAX_NAME:
        raise ValueError(f"{one.name!r}: a metric's name is printable ASCII, at most {MAX_NAME} characters")
    if one.unit and one.unit not in UNITS:
        near = difflib.get_close_matches(one.unit, UNITS, 1, 0.75)
        hint = f": {near[0]}?" if near else f"; there are {', '.join(sorted(UNITS))}"
        raise ValueError(f"{one.name}: CloudWatch has no unit {one.unit!r}{hint}")
    if one.buckets:
        raise ValueError(f"{one.name}: has buckets, and CloudWatch has none: leave them out")
    for label in one.labels:
        if not _PRINTABLE.fullmatch(label) or label.startswith(":") or len(label) > MAX_NAME:
            raise ValueError(
                f"{one.name}: {label[:50]!r} names no dimension: printable ASCII, not : first, at most 255"
            )
    return one


def _namespace(value: str) -> str:
    if not _NAMESPACE.fullmatch(value) or value.startswith((":", " ")) or not value.strip():
        raise ValueError("is no namespace: letters, digits, space and . - _ / # :, not : first, at most 255")
    if value.startswith("AWS/"):
        raise ValueError("begins with AWS/, which is for Amazon's own services: choose another")
    return value


def _region(value: str) -> str:
    if not _REGION.fullmatch(value):
        raise ValueError("is no region such as eu-central-1")
    return value


def _endpoint(value: str | None) -> str | None:
    if value is None:
        return None
    such_as = "https://vpce-0123-abc.monitoring.eu-central-1.vpce.amazonaws.com"
    address = check_address(value, such_as=such_as, sends="metrics")
    if urlsplit(address).path:
        raise ValueError("has a path, and the API is at the root of its host")
    return address


class CloudWatchConfig(BaseModel):
    """One account in one region."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    region: Annotated[str, AfterValidator(_region)] = Field(description="Such as eu-central-1")
    namespace: Annotated[str, AfterValidator(_namespace)] = Field(
        default="Confiture", description="What the metrics are filed under"
    )
    access_key_id: Annotated[Text, Field(pattern=r"^[A-Za-z0-9]{16,128}$")] = Field(
        default=None, description="With secret_access_key; without, AWS' own chain: environment, profile, role"
    )
    secret_access_key: Secret = Field(default=None, description="Belongs to access_key_id")
    session_token: Secret = Field(default=None, description="Of temporary credentials: they end within hours")
    profile: Annotated[Text, Field(max_length=200)] = Field(
        default=None, description="Or a profile of ~/.aws, which also may assume a role"
    )
    endpoint: Annotated[Text, AfterValidator(_endpoint)] = Field(
        default=None, description="Another address than the region's, such as that of a VPC endpoint"
    )
    measures: tuple[Annotated[Measure, AfterValidator(_measure)], ...] = Field(
        default=(),
        max_length=MAX_METRICS - len(MEASURES),
        description="More measures, or others in place of those built in by the same name",
    )
    defaults: bool = Field(default=True, description="Whether what is built in is measured: migrations")
    dimensions: dict[
        Annotated[str, Field(max_length=MAX_NAME, pattern=r"^[!-9;-~][ -~]*$")],
        Annotated[str, Field(max_length=MAX_VALUE, pattern=r"^[ -~]*[!-~][ -~]*$")],
    ] = Field(default_factory=dict, max_length=MAX_DIMENSIONS, description="Of every metric, such as Service: checkout")
    resolution: Literal[1, 60] = Field(default=60, description="Seconds that values are kept by; 1 costs more to read")
    max_per_second: int = Field(
        default=500, ge=1, le=100_000, description="Requests that the account may make in this region, your share of it"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("has one of access_key_id and secret_access_key: give both or neither")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("has a session_token without access_key_id: give all three, or none")
        if self.profile is not None and self.access_key_id is not None:
            raise ValueError("has a profile and an access_key_id: choose one")
        for one in self.active:
            if len({*one.labels, *self.dimensions}) > MAX_DIMENSIONS:
                raise ValueError(f"{one.name} would have more than {MAX_DIMENSIONS} dimensions")
        return self

    @cached_property
    def active(self) -> tuple[Measure, ...]:
        """Every measure that is asked, those built in first."""
        return chosen(MEASURES if self.defaults else (), self.measures)

    @property
    def url(self) -> str:
        """Where the API is (AWS General Reference, "Amazon CloudWatch endpoints"), without the slash at the end."""
        domain = "amazonaws.com.cn" if self.region.startswith(_CHINA) else "amazonaws.com"
        return self.endpoint or f"https://monitoring.{self.region}.{domain}"
