"""The settings of `webhook`: its endpoints.

An endpoint's address is a secret here: many receivers know their senders by nothing but a path or a query. So are the
values of its headers. No error text and no repr shows them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from eventbus.pattern import matches
from integrations.base import WHOLE
from integrations.errors import Misconfigured
from integrations.fields import NonEmptySecret, Pattern
from integrations.guard import Guard, exception
from integrations.signing import check_standard

Format = Literal["standard", "cloudevents", "plain"]

BOOKKEEPING = ("delivery.", "integration.", "silence.")
"""Topics about our own deliveries and quiet: an endpoint gets them only where one of its patterns names them."""

MILLISECONDS_FROM = 100
"""A time limit from here on is in milliseconds: none in seconds is as long, and none in milliseconds as short."""

_PHASES = {"post_execute": "migration.completed", "on_error": "migration.failed"}
"""Hook phases of Confiture, as its webhook settings name them under `events`."""

_PORTS = {"http": 80, "https": 443}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, section 5.1: a field name is a token."""
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")
"""RFC 9110, section 5.5, without its obsolete part (bytes over 0x7f)."""
_OUR_HEADERS = ("content-length", "content-type", "host", "transfer-encoding", "x-signature")


def _web_address(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        sound = False
    if not sound or not text.isprintable() or " " in text:
        raise ValueError("must start with http:// or https://, name a host and hold no spaces")
    if parts.username is not None:
        raise ValueError("must hold no user or password: put an Authorization header into `headers`")
    return value


def _headers(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, content in value.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name[:80]!r} is not a header name")
        if name.lower() in _OUR_HEADERS or name.lower().startswith("webhook-"):
            raise ValueError(f"{name} is set by the adapter itself: leave it out")
        if not _HEADER_VALUE.fullmatch(content.get_secret_value()):
            raise ValueError(f"the value of {name} must be visible ASCII characters and spaces between them")
    return value


def _check_standard(secrets: Iterable[SecretStr]) -> None:
    try:
        for secret in secrets:
            check_standard(secret)
    except Misconfigured as error:
        raise ValueError(error.detail) from None


def _topic(value: object) -> object:
    return _PHASES.get(value, value) if isinstance(value, str) else value


def _seconds(value: object) -> object:
    return value / 1000 if isinstance(value, int | float) and value >= MILLISECONDS_FROM else value


def _secret_alone(value: object) -> object:
    return {"secret": value} if isinstance(value, str | SecretStr) else value


def _excepted(value: str) -> str:
    exception(value)
    return value


class PreviousSecret(BaseModel):
    """A secret that was replaced. Given as bare text it signs until it is taken out of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    secret: NonEmptySecret = Field(description="What signed before")
    replaced: AwareDatetime | None = Field(
        default=None, description="When; it signs for `overlap_hours` after that. Without it: until it is taken out"
    )


def _of_one(value: str) -> str:
    if value == WHOLE:
        raise ValueError(f"is {WHOLE}, which means an integration as a whole: name it after its receiver")
    return value


class Endpoint(BaseModel):
    """One receiver. It has its own progress: its retries hold no other endpoint back."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, AfterValidator(_of_one)] = Field(
        default="",
        pattern=r"^[a-z0-9_-]{1,80}$",
        description="What people, routes and metrics call it: a-z, 0-9, _ and -; without one: after its host",
    )
    url: Annotated[SecretStr, AfterValidator(_web_address)] = Field(description="Where to post, http or https")
    topics: tuple[Annotated[Pattern, BeforeValidator(_topic)], ...] = Field(
        default=(">",),
        min_length=1,
        validation_alias=AliasChoices("topics", "events"),
        description="Patterns of the topics it gets; delivery.*, integration.* and silence.* only where one names them",
    )
    format: Format = Field(default="standard", description="standard, cloudevents or plain")
    secret: NonEmptySecret | None = Field(
        default=None,
        description="Signs every request; whsec_ or whsk_ and base64 for standard and cloudevents, any text for plain",
    )
    previous_secrets: tuple[Annotated[PreviousSecret, BeforeValidator(_secret_alone)], ...] = Field(
        default=(),
        max_length=10,
        description="Still sign beside `secret` while the receiver changes over; not for plain",
    )
    overlap_hours: float = Field(
        default=24, ge=0, le=168, description="How long a previous secret signs after it was `replaced`"
    )
    headers: Annotated[dict[str, SecretStr], AfterValidator(_headers)] = Field(
        default_factory=dict, description="Sent with every request, such as Authorization"
    )
    timeout: Annotated[float, BeforeValidator(_seconds)] = Field(
        default=15,
        ge=0.1,
        le=60,
        description="Seconds until an attempt without answer is given up; from 100 on in milliseconds",
    )
    retries: int | None = Field(
        default=None, ge=0, le=1000, description="Attempts after the first; without it as many as the worker makes"
    )
    max_per_minute: int | None = Field(
        default=None, ge=1, le=100_000, description="Requests a minute that the receiver takes"
    )
    disable_after_days: float = Field(
        default=5, ge=0, le=90, description="Days of nothing but failures after which it is switched off; 0: never"
    )
    allow_private: tuple[Annotated[str, AfterValidator(_excepted)], ...] = Field(
        default=(), description="Networks, addresses and host names it may be at although they are not public"
    )

    @model_validator(mode="before")
    @classmethod
    def _as_others_write_it(cls, value: Any) -> Any:
        """Settings of the programs that this one stands in for: no name, and `retry: {max_attempts, backoff}`."""
        if not isinstance(value, dict):
            return value
        value = dict(value)
        if "name" not in value and (host := _host_of(value.get("url"))):
            value["name"] = re.sub(r"[^a-z0-9-]+", "_", host)[:80]
        retry = value.get("retry")
        if isinstance(retry, dict) and set(retry) <= {"max_attempts", "backoff"} and "retries" not in value:
            del value["retry"]
            attempts, backoff = retry.get("max_attempts"), retry.get("backoff", "exponential")
            if backoff != "exponential":
                raise ValueError(
                    "retry.backoff can only be exponential: how long it is stands in the worker's settings"
                )
            if attempts is not None:
                value["retries"] = attempts - 1 if isinstance(attempts, int) else attempts
        return value

    @model_validator(mode="after")
    def _secrets_fit_the_format(self) -> Self:
        if self.previous_secrets and (self.secret is None or self.format == "plain"):
            raise ValueError("previous_secrets need a `secret` and a format other than plain")
        if self.format != "plain":
            every = (self.secret, *(one.secret for one in self.previous_secrets))
            _check_standard(secret for secret in every if secret is not None)
        return self

    @model_validator(mode="after")
    def _host_may_be_connected_to(self) -> Self:
        parts = urlsplit(self.url.get_secret_value())
        why_not = Guard(self.allow_private).why_not_host(parts.hostname or "", parts.port or _PORTS[parts.scheme])
        if why_not is not None:
            raise ValueError(f"url: {why_not}")
        return self

    def secrets(self, now: float) -> tuple[SecretStr, ...]:
        """Every secret that signs at a time (Unix seconds), the newest first."""
        if self.secret is None:
            return ()
        overlap = timedelta(hours=self.overlap_hours)
        old = [
            one.secret
            for one in self.previous_secrets
            if one.replaced is None or now < (one.replaced + overlap).timestamp()
        ]
        return (self.secret, *old)

    @property
    def host(self) -> str:
        """Scheme, host and port: what of the address may be shown."""
        parts = urlsplit(self.url.get_secret_value())
        return f"{parts.scheme}://{parts.netloc}"

    def takes(self, topic: str) -> bool:
        """False for a topic of the bookkeeping that no pattern names: `>` and `*.*` do not mean those."""
        if not topic.startswith(BOOKKEEPING):
            return True
        return any(matches(pattern, topic) for pattern in self.topics if pattern[0] not in "*>")


def _host_of(url: object) -> str | None:
    text = url.get_secret_value() if isinstance(url, SecretStr) else url
    try:
        return urlsplit(text).hostname if isinstance(text, str) else None
    except ValueError:
        return None


class WebhookConfig(BaseModel):
    """Who gets our webhooks."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    endpoints: tuple[Endpoint, ...] = Field(min_length=1, description="The receivers, each with a name of its own")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [endpoint.name for endpoint in self.endpoints]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise ValueError(f"endpoints must have different names; used twice: {', '.join(double)}")
        return self

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint of this name, or the only one where no name is given. Raises Misconfigured naming them all."""
        for endpoint in self.endpoints:
            if endpoint.name == name:
                return endpoint
        if name in ("", "default") and len(self.endpoints) == 1:
            return self.endpoints[0]
        known = ", ".join(endpoint.name for endpoint in self.endpoints)
        raise Misconfigured(f"webhook has no endpoint {name!r}: name one of {known}")
