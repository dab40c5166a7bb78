"""What may be set: every section and key of the settings file, with its default, unit and bounds.

Data only. A value that may be a secret is a SecretStr, so printing these models gives nothing away. Reading a file into
them is `settings`; an adapter's own keys are in the model of its manifest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    SerializeAsAny,
    model_validator,
)

from eventbus import Event, InvalidEvent, catalog
from eventbus.errors import Misconfigured
from eventbus.pattern import check_pattern, check_topic
from eventbus.redis.address import parse
from eventbus.redis.server import Override
from eventbus.spool import MOST_BYTES, SEGMENT_BYTES
from registry.routes.model import Inhibitions, Route, Routing, Runbooks, Windows

MIN_KEY_CHARACTERS = 16


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number")  # noqa: TRY004  pydantic makes a fault of ValueError only
    return value


def _pattern(text: str) -> str:
    try:
        return check_pattern(text)
    except Misconfigured as error:
        raise ValueError(str(error).removeprefix(f"{text[:80]!r} ")) from None


def _topic(text: str) -> str:
    try:
        return check_topic(text)
    except InvalidEvent as error:
        raise ValueError(str(error)) from None


def _cron(text: str) -> str:
    try:
        CronSim(text, datetime.now(UTC))
    except CronSimError as error:
        raise ValueError(f"is no cron expression: {error}") from None
    return text


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is no time zone of this machine; use a name such as Europe/Berlin") from None
    return name


def _address(url: SecretStr) -> SecretStr:
    try:
        parse(url.get_secret_value())
    except Misconfigured:  # its text may quote the password of a malformed URL
        raise ValueError(
            "is no address of the bus: use memory://, embedded://DIR, redis://HOST:PORT/DB or rediss://HOST:PORT/DB, "
            "with special characters of a password percent-encoded"
        ) from None
    return url


def _long_enough(key: SecretStr) -> SecretStr:
    if len(key) < MIN_KEY_CHARACTERS:
        raise ValueError(f"is shorter than {MIN_KEY_CHARACTERS} characters: make one with `openssl rand -hex 32`")
    return key


def _host_and_port(addr: str) -> str:
    if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", addr):
        raise ValueError("should be host:port, such as localhost:6379; an IPv6 address in brackets")
    return addr


Count = Annotated[int, BeforeValidator(_no_bool)]
Number = Annotated[float, BeforeValidator(_no_bool)]
Port = Annotated[int, Field(ge=0, le=65_535), BeforeValidator(_no_bool)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Host = Annotated[str, Field(min_length=1, max_length=253)]
Address = Annotated[SecretStr, AfterValidator(_address)]
Key = Annotated[SecretStr, AfterValidator(_long_enough)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class Redis(_Section):
    """A Redis server by its parts, for who would rather not write a URL."""

    addr: Annotated[str, AfterValidator(_host_and_port)] = Field(
        default="localhost:6379", description="host:port; an IPv6 address in brackets"
    )
    db: Count = Field(default=0, ge=0, le=65_535, description="Number of the database")
    username: str | None = Field(default=None, description="ACL user; needs a password")
    password: SecretStr | None = Field(default=None, description="Password; empty means none")
    tls: bool = Field(default=False, description="TLS, with host name and certificate checked")

    @model_validator(mode="after")
    def _whole_login(self) -> Self:
        if self.username and not self.password:
            raise ValueError("username needs a password")
        return self

    def url(self) -> str:
        """The address as a URL, password included."""
        user, password = self.username or "", self.password.get_secret_value() if self.password else ""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if password else ""
        return f"{'rediss' if self.tls else 'redis'}://{login}{self.addr}/{self.db}"


class Events(_Section):
    """Where the log of events is kept: a `url`, or a `provider` and what it needs."""

    url: Address = Field(
        default=SecretStr("embedded://./data"),
        description="memory://, embedded://DIR, redis://HOST:PORT/DB, rediss:// (TLS), "
        "redis+sentinel://HOST:PORT,.../NAME, redis+cluster://HOST:PORT,...; may hold a password",
    )
    durability: Literal["memory", "aof", "replica"] = Field(
        default="memory",
        description="What has to confirm an event before it counts as published: Redis' memory, its disk, or replicas",
    )
    replicas: Count = Field(default=1, ge=1, le=100, description="How many replicas, at durability replica")
    spool: Path | None = Field(
        default=None,
        description="Directory on this machine's disk for events that Redis does not take at the moment; default: none",
    )
    spool_bytes: Count = Field(
        default=MOST_BYTES,
        ge=SEGMENT_BYTES,
        le=1024**4,
        description="Bytes that one process spools at most; beyond them publishing says that there is no room",
    )
    accept_unsafe: tuple[Override, ...] = Field(
        default=(),
        description="Unsafe set-ups of Redis accepted on purpose: eviction, no-persistence, no-auth, plaintext",
    )
    provider: Literal["redis", "memory", "embedded"] | None = Field(
        default=None, description="Instead of url: redis, memory, or embedded (in ./data)"
    )
    redis: Redis | None = Field(default=None, description="The server, with provider: redis")

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if self.provider and "url" in self.model_fields_set:
            raise ValueError("url and provider say the same thing: give one of them")
        if self.redis and self.provider != "redis":
            raise ValueError("redis is read with provider: redis only: add that line, or remove redis")
        if self.provider == "redis":
            self._set_url((self.redis or Redis()).url())
        elif self.provider:
            self._set_url({"memory": "memory://", "embedded": "embedded://./data"}[self.provider])
        return self

    def _set_url(self, url: str) -> None:
        object.__setattr__(self, "url", _address(SecretStr(url)))  # frozen for everybody else

    @property
    def safe_url(self) -> str:
        """The address without user, password and options: for logs and pages."""
        return parse(self.url.get_secret_value()).text


class IntegrationSettings(_Section):
    """One configured integration. The rest of its section is its adapter's `config`."""

    enabled: bool = Field(default=True, description="Whether it takes events; a disabled one may lack its secrets")
    adapter: str = Field(default="", description="Name of the adapter; default: the integration's own name")
    topics: tuple[Pattern, ...] | None = Field(
        default=None, min_length=1, description="Patterns of the topics it takes; default: all its adapter handles"
    )
    start: Literal["now", "earliest"] = Field(
        default="now", description="Where a new integration begins: at the next event, or at the oldest one kept"
    )
    timeout: Number = Field(
        default=20, gt=0, le=600, description="Seconds a call may take: two thirds of worker.lease_seconds at most"
    )
    dry_run: bool = Field(default=False, description="Say in the log what would be sent, and send nothing")
    when_unknown: Literal["park", "resend"] = Field(
        default="park",
        description="After a cut-off call that the service can't be asked about: park it for a person, or resend",
    )
    paced: bool = Field(
        default=True, description="Space calls by the service's limits; false for a server of your own without them"
    )
    max_effects_per_minute: Count = Field(
        default=6000,
        ge=0,
        le=1_000_000,
        description="Calls that one target is given in any minute, whatever its service takes: ends a flood; 0: no cap",
    )
    breaker_seconds: Number = Field(
        default=30, gt=0, le=3600, description="Seconds that a service which keeps failing is left alone at first"
    )
    config: SerializeAsAny[BaseModel] | None = Field(
        default=None, description="The adapter's own settings; None while disabled. Not a key of the file"
    )


class Worker(_Section):
    """The processes that run integrations."""

    concurrency: Count = Field(default=16, ge=1, le=1000, description="Deliveries at once, per integration")
    lease_seconds: Number = Field(
        default=30, ge=0.1, le=3600, description="Seconds after which others take over from a worker that went silent"
    )
    max_attempts: Count = Field(
        default=10, ge=1, le=1000, description="Attempts of a delivery before it becomes a dead letter"
    )
    retry_base_seconds: Number = Field(default=1, gt=0, le=3600, description="Seconds before the first retry")
    retry_max_seconds: Number = Field(
        default=300, gt=0, le=86_400, description="Seconds between retries at most; not less than retry_base_seconds"
    )
    poison_limit: Count = Field(
        default=3, ge=1, le=100, description="Worker crashes that one event may cause before it becomes a dead letter"
    )
    grace_seconds: Number = Field(
        default=25, ge=0, le=3600, description="Seconds for running deliveries to finish when the worker is stopped"
    )
    host: Host = Field(default="127.0.0.1", description="Address for its metrics and health; 0.0.0.0: all interfaces")
    port: Port = Field(default=9091, description="Port for its metrics and health; 0: any free one")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.retry_max_seconds < self.retry_base_seconds:
            raise ValueError("retry_max_seconds is less than retry_base_seconds")
        return self


class Gateway(_Section):
    """The HTTP server: webhooks in, REST, health, metrics."""

    host: Host = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0: all interfaces")
    port: Port = Field(default=8080, description="Port to listen on; 0: any free one")
    api_keys: tuple[Key, ...] = Field(
        default=(), description="Keys that REST callers may present, 16 characters or more each; two while rotating"
    )
    max_body_bytes: Count = Field(
        default=1024 * 1024,
        ge=1024,
        le=25 * 1024 * 1024,
        description="Bytes of a request's body at most; a webhook route may allow more (GitHub's: 25 MiB)",
    )
    allowed_hosts: tuple[Host, ...] = Field(
        default=("*",), min_length=1, description="Host headers that are answered; *.example.com and * are understood"
    )
    grace_seconds: Number = Field(
        default=25, ge=0, le=3600, description="Seconds for running requests to finish when the gateway is stopped"
    )


class Log(_Section):
    """The program's own log lines."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level written")
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="console for people, json for machines; auto: console on a terminal"
    )
    keep: Count = Field(
        default=10_000,
        ge=0,
        le=1_000_000,
        description="Newest lines of all workers and gateways that stay in Redis, for `eventbus logs`, and as many "
        "warnings; 0: none",
    )
    keep_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that stays there"
    )


class Retention(_Section):
    """How long finished work stays: events for replay, actions so that a repeat does nothing."""

    hours: Number = Field(default=24, ge=0, le=8760, description="Hours that finished events are kept")
    events: Count = Field(
        default=1_000_000,
        ge=0,
        le=1_000_000_000,
        description="Finished events that are kept at most; about 450 bytes each",
    )
    ledger_days: Number = Field(
        default=30, gt=0, le=3650, description="Days that what was done is remembered; about 300 bytes an action"
    )


class Schedule(_Section):
    """An event that is published again and again, at the times of a cron expression."""

    cron: Annotated[str, AfterValidator(_cron)] = Field(
        description="Minute, hour, day of month, month, day of week, as in crontab(5); six fields begin with the second"
    )
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        default="UTC", description="Whose time the expression means, such as Europe/Berlin"
    )
    topic: Annotated[str, AfterValidator(_topic)] = Field(description="Topic of the event")
    data: Mapping[str, JsonValue] = Field(default_factory=dict, description="Its data, checked against the topic")
    key: str | None = Field(default=None, description="Its ordering key; a standard topic has its own")
    enabled: bool = Field(default=True, description="Whether it is published")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        try:
            self.event()
        except InvalidEvent as error:
            raise ValueError(str(error)) from None
        return self

    def event(self, **envelope: Any) -> Event[Any]:
        """The event it publishes. Raises InvalidEvent."""
        if self.key is not None:
            envelope["key"] = self.key
        return catalog.event(self.topic, dict(self.data), **envelope)


class Settings(_Section):
    """Everything a process is told. Safe to print: secrets are SecretStr."""

    events: Events = Field(default_factory=Events, description="Where the log of events is kept")
    integrations: Mapping[str, IntegrationSettings] = Field(
        default_factory=dict, description="Who acts on events, by name; none enabled: the log integration"
    )
    worker: Worker = Field(default_factory=Worker, description="The processes that run integrations")
    gateway: Gateway = Field(default_factory=Gateway, description="The HTTP server")
    log: Log = Field(default_factory=Log, description="The program's own log lines")
    retention: Retention = Field(default_factory=Retention, description="How long finished events stay for replay")
    schedules: Mapping[str, Schedule] = Field(
        default_factory=dict, description="Events that workers publish by the clock, by name; each fires once"
    )
    routes: Mapping[str, Route] = Field(
        default_factory=dict, description="Which events go where and in which words, by name, in the order they stand"
    )
    runbooks: Runbooks = Field(
        default_factory=dict, description="The page to open, by environment and type of error; default: any other"
    )
    time_intervals: Windows = Field(
        default_factory=dict, description="Windows for the routes' active and mute, by name"
    )
    inhibitions: Inhibitions = Field(
        default_factory=dict, description="Which events routes don't tell of while others fire, by name"
    )

    @property
    def routing(self) -> Routing:
        """What decides where an event goes."""
        return Routing(self.routes, self.runbooks, self.time_intervals, self.inhibitions)
