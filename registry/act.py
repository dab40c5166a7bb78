"""One act: a thing to bring to one target of one integration, and the words for what may become of it."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from eventbus import Attempt, Event
from eventbus.gate import Breaker, Cost
from integrations.base import WHOLE, Artifact, Budget, Delivery, DeliveryResult, Integration, Notification, What
from integrations.errors import IntegrationError, NotReady
from integrations.redact import Redactor

T = TypeVar("T")

MINUTE = timedelta(minutes=1)


class Busy(Exception):
    """The same act is under way in another process."""


class KeyReused(Exception):
    """The idempotency key stands for another content."""


class Parked(Exception):
    """Nobody can say whether the act was done before, and the service can't be asked: a person has to decide."""


class Waiting(NotReady):
    """The gate holds the act back. `pause`: everything else of this account would have to wait, too."""

    def __init__(self, detail: str, *, retry_after: timedelta, pause: bool) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.pause = pause


@dataclass(frozen=True, slots=True)
class Act:
    """What, by whom, to whom, under which key, and the fence of the delivery it belongs to.

    event     what it follows from, where that is an event; `route`: by which route
    dry_run   show what would be sent, and send nothing
    paced     whether it counts against the service's budgets
    cap       how many acts this target is given in any minute, whatever the service takes; 0: no such cap. What events
              cause that cause events in turn may never end; this keeps it from flooding whoever is at the other end
    resend    send again what nobody can say was done, instead of parking it
    """

    integration: str
    adapter: Integration[Any]
    what: What
    delivery: Delivery
    timeout: timedelta
    event: Event[Any] | None = None
    route: str = ""
    attempt: Attempt | None = None
    breaker: Breaker = field(default_factory=Breaker)
    dry_run: bool = False
    resend: bool = False
    paced: bool = True
    cap: int = 0
    redact: Redactor = field(default_factory=Redactor)

    @property
    def account(self) -> str:
        """Whose gate it passes: the integration, or one target of an integration that has several."""
        return account_of(self.integration, self.delivery.target)

    @property
    def parks(self) -> bool:
        """Whether a person decides when nobody can say that it was done. Who asks by hand does so by asking again."""
        is_blind = self.adapter.manifest.effects == "at_least_once"
        return is_blind and not self.resend and self.event is not None

    @property
    def method(self) -> str:
        """The method of the interface that does it."""
        if isinstance(self.what, Event):
            return "handle_event"
        return "send_notification" if isinstance(self.what, Notification) else "create_artifact"

    @property
    def content(self) -> bytes:
        """What its idempotency key stands for: an event by its id, since a route may be reworded between two attempts;
        else the thing itself."""
        body = self.what.model_dump_json() if self.event is None else self.event.id
        return f"{self.integration}\0{self.method}\0{body}".encode()

    def call(self) -> Awaitable[DeliveryResult]:
        """Do it, once."""
        if isinstance(self.what, Event):
            return self.adapter.handle_event(self.what, self.delivery)
        if isinstance(self.what, Artifact):
            return self.adapter.create_artifact(self.what, self.delivery)
        return self.adapter.send_notification(self.what, self.delivery)

    def costs(self) -> list[Cost]:
        """What it takes of the account's budgets."""
        budgets = [*self.adapter.budgets(self.what, self.delivery)] if self.paced else []
        if self.cap:
            budgets.append(Budget("effects per minute", self.cap, MINUTE, burst=max(1, self.cap // 4)))
        places = self.adapter.places(self.what, self.delivery) if budgets else ()
        costs: list[Cost] = []
        for budget in budgets:
            names = [budget.name] if budget.each == "account" else [f"{budget.name}:{place}" for place in places]
            costs += [Cost(name, budget.spacing, budget.burst) for name in names]
        return costs


def account_of(integration: str, target: str) -> str:
    """What the gate, the group and the trail of a target are called."""
    return integration if target == WHOLE else f"{integration}.{target}"


async def contained(call: Awaitable[T], redact: Redactor) -> T:
    """A call into an adapter. One that tries to end the program has a fault like any other; ours goes on. What its
    errors say is put through `redact`."""
    try:
        return await call
    except SystemExit as error:
        raise RuntimeError(f"it tried to end the program with SystemExit({error.code!r})") from error
    except Exception as error:
        error.args = tuple(redact(one) if isinstance(one, str) else one for one in error.args)
        if isinstance(error, IntegrationError):
            error.detail = redact(error.detail)
        elif (said := redact(str(error))) != str(error):
            raise RuntimeError(f"{type(error).__name__}: {said}") from None
        raise
