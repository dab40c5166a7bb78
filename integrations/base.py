"""What an integration is: one interface, one manifest, and the values that cross it.

An adapter subclasses `Integration`, declares its `Manifest` once, and implements `initialize, handle_event,
send_notification, create_artifact, health, close`. Each outgoing method makes one effect and gets an idempotency key
that is the same on every attempt. Results are never booleans: `DeliveryResult` says what happened at the other side;
errors (`integrations.errors`) say what the dispatcher must do. Adapters never retry: only the dispatcher does.

Optional abilities are protocols of their own: `Inbound` (the service calls us), `Reconciles` (we can look up whether
an effect exists), `Subscribes` (targets of its own), `Examined` and `Drills` (people look whether it works), `Exposes`
(what it counted is scraped).
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from structlog.typing import FilteringBoundLogger

from eventbus.event import Event
from eventbus.tally import MAX_ROWS, Change, Tallied, Tally
from integrations.doubts import Doubts
from integrations.errors import IntegrationError, RateLimited, Rejected
from integrations.http import Http


class Outcome(StrEnum):
    """What an attempt came to."""

    DELIVERED = "delivered"  # the effect exists now
    DUPLICATE = "duplicate"  # it existed already: found in the ledger or at the service
    SKIPPED = "skipped"  # this event asks nothing of this integration
    REJECTED = "rejected"  # the service refused for good
    RETRY = "retry"  # surely not done, worth another attempt
    UNKNOWN = "unknown"  # may or may not be done


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """What happened at the other side.

    reference   the service's id of the effect: a message's ts, a comment's id
    url         its page, for people
    detail      one line for people; no secret
    state       what the adapter wants to know when the next event of the same thread comes; see `Earlier`
    ends        nothing of the thread is open any more: the next event of it begins anew
    """

    outcome: Outcome
    reference: str | None = None
    url: str | None = None
    detail: str = ""
    retry_after: timedelta | None = None
    state: Mapping[str, str] = field(default_factory=dict)
    ends: bool = False

    @classmethod
    def delivered(
        cls,
        reference: str | None = None,
        *,
        url: str | None = None,
        detail: str = "",
        state: Mapping[str, str] | None = None,
        ends: bool = False,
    ) -> DeliveryResult:
        """The effect exists now."""
        return cls(Outcome.DELIVERED, reference, url, detail, state=state or {}, ends=ends)

    @classmethod
    def skipped(cls, detail: str) -> DeliveryResult:
        """Nothing to do for this event, and why."""
        return cls(Outcome.SKIPPED, detail=detail)


WHOLE = "default"
"""The target of an account that has no others."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What this integration made before for the same thread: the comment to edit, the incident to resolve.

    reference, url, state   as the adapter's `DeliveryResult` gave them
    """

    reference: str | None = None
    url: str | None = None
    state: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What an adapter is told beside the thing itself: one attempt to bring one thing to one target.

    key      idempotency key: the same on every attempt of this delivery, different for every other. Hundreds of
             characters at times, of any kind: an event's id is in it, and some come from outside
    target   which of the integration's targets
    attempt  counted from 1
    thread   what it is about, such as `task_id:42`; things with one thread share an artifact. Empty: stands alone
    earlier  what was made for this thread before and has not ended; None: nothing
    """

    key: str
    target: str = WHOLE
    attempt: int = 1
    thread: str = ""
    earlier: Earlier | None = None


class Severity(StrEnum):
    """How loud. PagerDuty's four words; each adapter maps them once."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Action(BaseModel):
    """A button. Pressing it becomes `slack.action.<action_id>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = Field(min_length=1, max_length=75)
    action_id: str = Field(min_length=1, max_length=150, pattern=r"^[A-Za-z0-9_-]+$")
    value: str = Field(default="", max_length=2000)
    style: Literal["primary", "danger"] | None = None


class Notification(BaseModel):
    """A message to people, before any service's markup. Text is text: adapters escape what would ping or format."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = "message"
    target: str = Field(default="", description="Where: a channel, a person, an address; empty: the adapter's default")
    message: str = Field(min_length=1)
    title: str | None = None
    severity: Severity = Severity.INFO
    fields: dict[str, str] = Field(default_factory=dict, description="Short facts shown as label and value")
    url: str | None = Field(default=None, description="Where to read more")
    actions: tuple[Action, ...] = Field(default=(), max_length=25)


class Artifact(BaseModel):
    """A thing to make at the service: `pull_request`, `issue`, `comment`. The manifest types its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    content: dict[str, JsonValue]


What = Event[Any] | Notification | Artifact
"""What an integration is given to bring out."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One request as it would leave, for people: a dry run and `eventbus routes test` show it.

    doing    in words: `comment on acme/api#7`
    request  method and address, without what is secret: `POST https://api.github.com/repos/...`
    body     the body as text
    """

    doing: str
    request: str = ""
    body: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a service takes: at most `count` calls in any time of length `per`, `burst` of them at once.

    The dispatcher spaces calls so that the service never has to refuse one; all workers share the budget.

    each  what it counts for: the whole account, or each of the places that `Integration.places` names
    """

    name: str
    count: int
    per: timedelta
    burst: int = 1
    each: Literal["account", "place"] = "account"

    def __post_init__(self) -> None:
        if not 1 <= self.burst <= self.count:
            raise ValueError(f"budget {self.name}: burst must be 1 to {self.count}, not {self.burst}")

    @property
    def spacing(self) -> timedelta:
        """Between two calls once the burst is used up. A full burst and what follows it fit into one `per`."""
        return self.per / (self.count - self.burst + 1)


HEALTH_SECONDS = 4.0
"""How long a service may take to say how it is: less than the registry waits for an adapter."""

HealthState = Literal["healthy", "degraded", "unhealthy"]


@dataclass(frozen=True, slots=True)
class Health:
    """How an integration is, found out now and not remembered. `latency_ms`: of the question to the service."""

    state: HealthState
    detail: str = ""
    latency_ms: float | None = None

    @classmethod
    async def of(cls, question: Awaitable[str], service: str) -> Health:
        """What the answer to a question says: healthy with the answer as detail, degraded when we are to slow down,
        unhealthy after HEALTH_SECONDS or any other error of ours."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                answer = await question
        except TimeoutError:
            return cls("unhealthy", f"{service} did not answer within {HEALTH_SECONDS:g} s")
        except RateLimited as error:
            return cls("degraded", error.detail)
        except IntegrationError as error:
            return cls("unhealthy", error.detail)
        return cls("healthy", answer, round((time.monotonic() - began) * 1000, 1))


Effects = Literal["keyed", "searchable", "repeatable", "at_least_once"]
"""What the dispatcher may do when it can't know whether an effect exists (a crash, a lost answer).

keyed          the service itself drops a repeated key: send again
searchable     the adapter looks for its mark (`Reconciles`) before sending again
repeatable     the receiver recognises a repeat by a stable id it is sent: send again
at_least_once  it can't be known: parked for a person (`eventbus unknown`), unless the config says to send again
"""


@dataclass(frozen=True, slots=True)
class Scope:
    """A right that our credentials need at the service; `eventbus integrations doctor` asks for it.

    why  what fails without it
    """

    name: str
    why: str
    needed: bool = True


@dataclass(frozen=True, slots=True)
class Manifest:
    """The static facts of an adapter, declared once; tables, REST and CLI are made from it.

    name           folder, config key, metric label, consumer group
    config         its settings, each field described; secrets are SecretStr
    handles        patterns of the topics it takes unless the config says otherwise
    emits          topics or families that its inbound side may publish
    notifications  kinds that send_notification takes
    artifacts      kinds that create_artifact takes, with the model of their content
    effects        see `Effects`
    limits         the service's published limits, for people
    budgets        those that calls are spaced by
    scopes         what its credentials need
    tier           what its contract earns; a run of the contract fails where that is less (`testing.plugin`)
    """

    name: str
    title: str
    config: type[BaseModel]
    handles: tuple[str, ...] = ()
    emits: tuple[str, ...] = ()
    notifications: tuple[str, ...] = ()
    artifacts: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    effects: Effects = "at_least_once"
    limits: str = ""
    budgets: tuple[Budget, ...] = ()
    scopes: tuple[Scope, ...] = ()
    tier: Literal["works", "safe", "complete"] | None = None


class Store(Protocol):
    """A small durable table of the integration's own: for what must outlive the process. Values are JSON.

    `tally` adds numbers up, over all processes and exactly once per key; `tallied` gives them back.
    """

    async def get(self, name: str) -> JsonValue: ...
    async def put(self, name: str, value: JsonValue, *, lifetime: timedelta | None = None) -> None: ...
    async def delete(self, name: str) -> None: ...
    async def items(self, prefix: str) -> dict[str, JsonValue]: ...

    async def tally(self, key: str, changes: Sequence[Change], *, most: int = MAX_ROWS, idle: timedelta) -> Tallied:
        """Make all changes in one step, once per key. Beyond `most` rows a new one needs one that was `idle` to go."""
        ...

    async def tallied(self) -> Tally:
        """Every row; that of the empty name counts what found no room."""
        ...

    async def tally_rows(self) -> int:
        """How many rows there are, without that of the empty name. Costs nothing, however many."""
        ...


ConfigT = TypeVar("ConfigT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Context(Generic[ConfigT]):
    """What an adapter is given to live on.

    name       this account's name in the config
    config     its settings, validated
    http       the one way out over HTTP
    store      what it wants to remember
    log        bound to the integration's name
    components  how every component of the system is, for a status command
    doubts     calls of which nobody knows whether they were made; None: there is no bus to ask
    """

    name: str
    config: ConfigT
    http: Http
    store: Store
    log: FilteringBoundLogger
    components: Callable[[], Awaitable[Mapping[str, Health]]]
    doubts: Doubts | None = None


class Integration(ABC, Generic[ConfigT]):
    """One configured account of a service.

    Lifecycle: constructed without arguments, `initialize` once, then any of the calls concurrently, `close` once.
    `initialize` makes clients and checks settings, but need not reach the service: a service that is down must not
    keep a worker from starting. `close` may be called twice, and after a failed `initialize`.
    """

    manifest: ClassVar[Manifest]
    context: Context[ConfigT]

    @property
    def config(self) -> ConfigT:
        """This account's settings."""
        return self.context.config

    async def initialize(self, context: Context[ConfigT]) -> None:
        """Take the context; make clients. Raises Misconfigured when the settings can't work."""
        self.context = context

    @abstractmethod
    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """Act on an event: at most one effect, named by `delivery.key`."""

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        """Tell people. Raises Rejected where the adapter has no notifications."""
        raise Rejected(f"{self.manifest.name} sends no notifications")

    async def create_artifact(self, artifact: Artifact, delivery: Delivery) -> DeliveryResult:
        """Make a thing at the service. Raises Rejected where the adapter makes none of that type."""
        known = ", ".join(self.manifest.artifacts) or "none"
        raise Rejected(f"{self.manifest.name} makes no artifact {artifact.type!r}; it makes: {known}")

    def places(self, what: What, delivery: Delivery) -> tuple[str, ...]:
        """Where it goes, for the budgets that count for each place: a channel, a repository. Pure."""
        return ()

    def budgets(self, what: What, delivery: Delivery) -> tuple[Budget, ...]:
        """The budgets that bringing it out counts against. Pure."""
        return self.manifest.budgets

    def preview(self, what: What, delivery: Delivery) -> Sequence[Preview]:
        """The requests that bring it out, without sending any; empty when it asks nothing of this integration.

        Pure: made of the settings and the thing, with `delivery.earlier` as it is given. Raises Rejected for what can
        never be sent.
        """
        raise Rejected(f"{self.manifest.name} offers no preview")

    @abstractmethod
    async def health(self) -> Health:
        """Ask the service, with our credentials, within a few seconds. Never raises for a service that is down."""

    async def close(self) -> None:
        """Let go of clients and sockets."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place of an integration that has its own progress: its retries hold no other target back.

    An adapter may name WHOLE alone, to choose the topics by its settings. Routes add theirs to that, and to no other.
    """

    name: str
    topics: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether it is the account itself."""
        return self.name == WHOLE


@runtime_checkable
class Subscribes(Protocol):
    """An adapter with targets of its own choosing, such as the endpoints of `webhook`."""

    def targets(self) -> Sequence[Target]: ...


@runtime_checkable
class Reconciles(Protocol):
    """An adapter that can find out whether the effect of a key exists."""

    async def find(self, what: What, delivery: Delivery) -> DeliveryResult | None:
        """The effect, or None when it surely does not exist. Raises IntegrationError when it can't be known."""
        ...


@runtime_checkable
class Follows(Protocol):
    """An adapter whose effects have events follow from them, now or at a time: an approval expires."""

    async def follow(
        self, what: What, delivery: Delivery, result: DeliveryResult
    ) -> Sequence[tuple[Event[Any], datetime | None]]:
        """The events, each with its time or None for now. Asked again after a crash: their idempotency keys are what
        makes them one."""
        ...


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of a look for webhooks that never reached us.

    asked  asked for again
    left   missed too, for the next look: a service takes only so many such wishes at once
    said   all of it in one sentence, for people
    """

    asked: int
    left: int
    said: str


@runtime_checkable
class Recovers(Protocol):
    """An adapter that can ask its service for webhooks which never reached us."""

    @property
    def recover_every(self) -> timedelta | None:
        """How often workers ask by the clock; None: only people ask."""
        ...

    async def recover(self, since: datetime, *, patiently: bool = False) -> Recovered:
        """Ask for those since then. Raises IntegrationError.

        patiently  for who asks by the clock: what failed before is left alone for a while, longer each time
        """
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `eventbus integrations doctor` looked at. No secret.

    level  fail: it can't work so; warn: it may come to harm, or part of it does not work
    fix    what to do next; empty where all is well
    """

    about: str
    level: Literal["ok", "warn", "fail"]
    what: str
    fix: str = ""


@runtime_checkable
class Examined(Protocol):
    """An adapter that can look more closely than `health`: at credentials, rights, places, secrets, clocks."""

    async def examine(self) -> Sequence[Finding]:
        """Look, and change nothing. What the service answers becomes findings; anything raised is one, too."""
        ...


@runtime_checkable
class Drills(Protocol):
    """An adapter whose drill can be followed at the service, and taken back there.

    Both are given the notification that was sent, with its delivery and result. Where the answer was lost the result is
    what `find` found, or else has the outcome `unknown` and neither reference nor state: then they go by the delivery.
    """

    async def seen(self, notification: Notification, delivery: Delivery, result: DeliveryResult) -> bool | None:
        """Whether it is there and open; None where the service can't be asked. Raises IntegrationError."""
        ...

    async def take_back(self, notification: Notification, delivery: Delivery, result: DeliveryResult) -> str:
        """Remove or resolve it, and say which; empty where that can't be done. Raises IntegrationError."""
        ...


@runtime_checkable
class Exposes(Protocol):
    """An adapter that is asked for what it has counted: `GET /metrics/<its name>` of every gateway and worker."""

    async def exposition(self) -> bytes:
        """The Prometheus text format, version 0.0.4; the same from every process. Raises our errors."""
        ...


@runtime_checkable
class Registered(Protocol):
    """An adapter whose service knows us as an app, which a manifest describes."""

    def app_manifest(self, settings: Any, url: str, name: str) -> Mapping[str, JsonValue]:
        """The app that these settings need, without `initialize`. `url`: of our webhook. Raises ValueError."""
        ...


@dataclass(frozen=True, slots=True)
class InboundRequest:
    """A webhook as it came: header names in lower case, the body's raw bytes, the time it arrived (Unix seconds)."""

    headers: Mapping[str, str]
    body: bytes
    received_at: float


@dataclass(frozen=True, slots=True)
class InboundReply:
    """What a verified request becomes: events to publish, and the answer to give once they are durable.

    remember       how long the events' idempotency keys are kept
    replay_status  the HTTP status when every event was published before; None: the same answer as the first time
    first_wins     an event whose key was published before with other words is known, too: what it said first stays. For
                   senders that repeat a fact in words of the moment; else it is a conflict, and refused
    """

    events: tuple[Event[Any], ...] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    remember: timedelta = timedelta(days=1)
    replay_status: int | None = None
    first_wins: bool = False


Accept = Callable[[InboundReply], Awaitable[None]]
"""Makes the events of a reply durable; raises where that can't be."""


@runtime_checkable
class Listens(Protocol):
    """An adapter that fetches what its service has to say, over a connection that it opens itself."""

    @property
    def listens(self) -> bool:
        """Whether its settings ask for that."""
        ...

    async def listen(self, accept: Accept) -> None:
        """Serve one connection until the service ends it. Raises IntegrationError when there is none."""
        ...


@runtime_checkable
class Inbound(Protocol):
    """An adapter whose service calls us."""

    async def receive(self, request: InboundRequest) -> InboundReply:
        """Verify the raw bytes, then parse. Raises a `Refusal`; publishes nothing itself."""
        ...


__all__ = [
    "WHOLE",
    "Accept",
    "Action",
    "Artifact",
    "Budget",
    "Context",
    "Delivery",
    "DeliveryResult",
    "Drills",
    "Earlier",
    "Effects",
    "Examined",
    "Exposes",
    "Finding",
    "Follows",
    "Health",
    "HealthState",
    "Inbound",
    "InboundReply",
    "InboundRequest",
    "Integration",
    "Listens",
    "Manifest",
    "Notification",
    "Outcome",
    "Preview",
    "Reconciles",
    "Recovered",
    "Recovers",
    "Registered",
    "Scope",
    "Severity",
    "Store",
    "Subscribes",
    "Target",
    "What",
]
