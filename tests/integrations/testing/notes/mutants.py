"""Adapters that break one rule each. Every test of the contract must fail for one of them, or it guards nothing.

`@breaks(7)` makes the contract class of a mutant; `conftest` runs rule 7 of it and nothing else. `Honest` breaks none,
so that a mutant fails for what is written here.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import model_validator

from eventbus.catalog import catalog
from eventbus.event import Event
from integrations.base import (
    Budget,
    Context,
    Delivery,
    DeliveryResult,
    Health,
    InboundReply,
    InboundRequest,
    Preview,
    What,
)
from integrations.errors import (
    AuthFailed,
    IntegrationError,
    NotReady,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    ServiceFault,
    Unreachable,
)
from integrations.http import Answer, check
from tests.integrations.testing.notes.service import (
    MOST_CHARACTERS,
    FakeNotes,
    ForgetfulNotes,
    Notes,
    NotesConfig,
    NotesContract,
    SearchableNotes,
)

N = TypeVar("N", bound=type[Notes])


def breaks(rule: int | None, **contract: Any) -> Callable[[N], N]:
    """Hold the adapter to the contract, as a test class of this module."""

    def hold(adapter: N) -> N:
        name = f"Test{adapter.__name__}"
        fake = ForgetfulNotes if issubclass(adapter, SearchableNotes) else FakeNotes
        body = {"__module__": __name__, "breaks": rule, "adapter": adapter, "fake": fake, **contract}
        globals()[name] = type(name, (NotesContract,), body)
        return adapter

    return hold


@breaks(None)
class Honest(Notes):
    """All rules."""


@breaks(5)
class HonestSearchable(SearchableNotes):
    """What a look-up has to do with."""


# -- 1 and 14: settings -----------------------------------------------------------------------------------------------


class SilentConfig(NotesConfig):
    """Does not say what is missing."""

    @model_validator(mode="before")
    @classmethod
    def _all_or_nothing(cls, value: dict[str, Any]) -> dict[str, Any]:
        if len(value) < 3:
            raise ValueError("the settings are wrong")
        return value


@breaks(1)
class Silent(Notes):
    manifest = replace(Notes.manifest, config=SilentConfig)


class LongConfig(NotesConfig):
    """Has a setting that the README does not know."""

    folder: str = ""


@breaks(14)
class Undocumented(Notes):
    manifest = replace(Notes.manifest, config=LongConfig)


# -- 2: health --------------------------------------------------------------------------------------------------------


@breaks(2)
class AlwaysHealthy(Notes):
    async def health(self) -> Health:
        return Health("healthy")


@breaks(2)
class NeverHealthy(Notes):
    async def health(self) -> Health:
        return Health("unhealthy", "too lazy to ask")


@breaks(2)
class NeedsTheServiceToStart(Notes):
    async def initialize(self, context: Context[NotesConfig]) -> None:
        await super().initialize(context)
        self._is_there = (await self.request("GET", "/me")).status == 200

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        if not self._is_there:
            raise NotReady("it was not there when we started")
        return await super().handle_event(event, delivery)


# -- 3 and 4: effects -------------------------------------------------------------------------------------------------


@breaks(3)
class Twice(Notes):
    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        await super().handle_event(event, replace(delivery, key=f"{delivery.key}-before"))
        return await super().handle_event(event, delivery)


@breaks(3)
class KnowsOneTopic(Notes):
    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        await self.send(json.dumps({"text": event.data.error}).encode(), delivery)
        return DeliveryResult.delivered()


@breaks(3)
class SharesStateBetweenCalls(Notes):
    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        self.current = event, delivery
        await asyncio.sleep(0)
        return await super().handle_event(*self.current)


@breaks(4)
class NewKeyEachTime(Notes):
    async def send(self, body: bytes, delivery: Delivery) -> Answer:
        return await super().send(body, replace(delivery, key=secrets.token_hex()))


@breaks(4)
class DeniesWhatItDid(Notes):
    manifest = replace(Notes.manifest, effects="at_least_once")

    async def send(self, body: bytes, delivery: Delivery) -> Answer:
        return await super().send(body, replace(delivery, key=secrets.token_hex()))

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        await super().handle_event(event, delivery)
        return DeliveryResult.skipped("nothing to see here")


# -- 5: what is cut off -----------------------------------------------------------------------------------------------


@breaks(5)
class TakesSilenceForSuccess(Notes):
    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        try:
            return await super().handle_event(event, delivery)
        except OutcomeUnknown:
            return DeliveryResult.delivered()


@breaks(5)
class NewKeyEachAttempt(Notes):
    async def send(self, body: bytes, delivery: Delivery) -> Answer:
        return await super().send(body, replace(delivery, key=f"{delivery.key}:{delivery.attempt}"))


@breaks(5)
class FindsNothing(SearchableNotes):
    async def find(self, what: What, delivery: Delivery) -> DeliveryResult | None:
        return None


@breaks(5)
class FindsAlways(SearchableNotes):
    async def find(self, what: What, delivery: Delivery) -> DeliveryResult | None:
        return DeliveryResult.delivered("it must be somewhere")


@breaks(5)
class TakesAFailedLookUpForAbsence(SearchableNotes):
    async def find(self, what: What, delivery: Delivery) -> DeliveryResult | None:
        try:
            return await super().find(what, delivery)
        except IntegrationError:
            return None


# -- 6, 7 and 8: answers ----------------------------------------------------------------------------------------------


@breaks(6)
class ForgetsTheTime(Notes):
    async def send(self, body: bytes, delivery: Delivery) -> Answer:
        try:
            return await super().send(body, delivery)
        except RateLimited as error:
            raise RateLimited(error.detail) from None


@breaks(6)
class Impatient(Notes):
    async def send(self, body: bytes, delivery: Delivery) -> Answer:
        try:
            return await super().send(body, delivery)
        except RateLimited as error:
            raise ServiceFault(error.detail) from None


@breaks(7)
class TriesAgainByItself(Notes):
    async def send(self, body: bytes, delivery: Delivery) -> Answer:
        try:
            return await super().send(body, delivery)
        except ServiceFault:
            return await super().send(body, delivery)


@breaks(7)
class GivesUpAtOnce(Notes):
    async def send(self, body: bytes, delivery: Delivery) -> Answer:
        try:
            return await super().send(body, delivery)
        except (ServiceFault, AuthFailed) as error:
            raise Rejected(error.detail) from None


@breaks(7)
class NeverGivesUp(Notes):
    async def send(self, body: bytes, delivery: Delivery) -> Answer:
        try:
            return await super().send(body, delivery)
        except Rejected as error:
            raise Unreachable(error.detail) from None


@breaks(7)
class KeepsTheAnswerToItself(Notes):
    async def send(self, body: bytes, delivery: Delivery) -> Answer:
        try:
            return await super().send(body, delivery)
        except Rejected:
            raise Rejected("something went wrong") from None


@breaks(8)
class HopesALittleLonger(Notes):
    patience = timedelta(minutes=1)

    async def send(self, body: bytes, delivery: Delivery) -> Answer:
        try:
            return await super().send(body, delivery)
        except asyncio.CancelledError:
            await asyncio.sleep(8)
            raise OutcomeUnknown("it did not come after all") from None


# -- 9: the dry run ---------------------------------------------------------------------------------------------------


@breaks(9)
class ShowsNothing(Notes):
    def preview(self, what: What, delivery: Delivery) -> Sequence[Preview]:
        return ()


@breaks(9)
class ShowsSomethingElse(Notes):
    def preview(self, what: What, delivery: Delivery) -> Sequence[Preview]:
        return [replace(one, body='{"text": "something failed"}') for one in super().preview(what, delivery)]


@breaks(9)
class SendsWhenItShows(Notes):
    def preview(self, what: What, delivery: Delivery) -> Sequence[Preview]:
        self.sending = asyncio.create_task(self.send(self.render(what), delivery))
        return super().preview(what, delivery)


# -- 10: secrets ------------------------------------------------------------------------------------------------------


@breaks(10)
class LogsItsToken(Notes):
    async def send(self, body: bytes, delivery: Delivery) -> Answer:
        self.context.log.info("sending", authorization=self.config.token.get_secret_value())
        return await super().send(body, delivery)


@breaks(10)
class QuotesTheAnswer(Notes):
    async def send(self, body: bytes, delivery: Delivery) -> Answer:
        answer = await self.request("POST", "/notes", delivery.key, body)
        if answer.status == 400:
            self.context.log.warning("refused", said=answer.text)
            raise Rejected(answer.text)
        return check(answer, "Notes")


# -- 11 and 13: connections -------------------------------------------------------------------------------------------


@breaks(11)
class PhonesHome(Notes):
    async def send(self, body: bytes, delivery: Delivery) -> Answer:
        with suppress(IntegrationError):
            await self.context.http.request("POST", "http://telemetry.example/", content=body)
        return await super().send(body, delivery)


@breaks(13)
class LeavesATask(Notes):
    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        self.watching = asyncio.create_task(asyncio.sleep(3))
        return await super().handle_event(event, delivery)


@breaks(13)
class LeavesASocket(Notes):
    kept: list[socket.socket] = []  # noqa: RUF012

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        host, port = self.config.url.removeprefix("http://").split(":")
        kept = socket.socket()
        kept.connect((host, int(port)))
        self.kept.append(kept)
        return await super().handle_event(event, delivery)


@breaks(13)
class ClosesWhatItNeverOpened(Notes):
    async def initialize(self, context: Context[NotesConfig]) -> None:
        await super().initialize(context)
        self.opened = True

    async def close(self) -> None:
        del self.opened


# -- 12: what comes in ------------------------------------------------------------------------------------------------


@breaks(12)
class BelievesEverybody(Notes):
    async def receive(self, request: InboundRequest) -> InboundReply:
        return self.understand(request.body)


@breaks(12)
class ReadsBeforeItVerifies(Notes):
    async def receive(self, request: InboundRequest) -> InboundReply:
        json.loads(request.body)
        return await super().receive(request)


@breaks(12)
class NeverForgets(Notes):
    async def receive(self, request: InboundRequest) -> InboundReply:
        return await super().receive(replace(request, received_at=float(request.headers["x-time"])))


@breaks(12)
class CountsForItself(Notes):
    numbers = itertools.count()

    def understand(self, body: bytes) -> InboundReply:
        reply = super().understand(body)
        fresh = [one.model_copy(update={"idempotency_key": f"notes:{next(self.numbers)}"}) for one in reply.events]
        return replace(reply, events=tuple(fresh))


@breaks(12)
class TakesAllForOne(Notes):
    def understand(self, body: bytes) -> InboundReply:
        reply = super().understand(body)
        same = [catalog.event(one.topic, {"id": "?"}, id="1", time=_WHEN) for one in reply.events]
        return replace(reply, events=tuple(same))


_WHEN = "2026-01-01T00:00:00Z"


@breaks(12)
class SaysWhatItDoesNotPromise(Notes):
    manifest = replace(Notes.manifest, emits=("notes.written",))


@breaks(12)
class DoesNotKnowTomorrow(Notes):
    def understand(self, body: bytes) -> InboundReply:
        reply = super().understand(body)
        if not reply.events:
            raise Rejected("what is that?")
        return reply


# -- 15: budgets ------------------------------------------------------------------------------------------------------


@breaks(15)
class TooGenerous(Notes):
    manifest = replace(Notes.manifest, budgets=(Budget("notes", 125, timedelta(minutes=1), burst=20),))


@breaks(15)
class OnTheEdge(Notes):
    """Forgets that what leaves in time may arrive late."""

    manifest = replace(Notes.manifest, budgets=(Budget("notes", 121, timedelta(minutes=1), burst=1),))


class Unlimited(FakeNotes):
    """Takes anything: in front of it no budget is proven."""

    most = 1_000_000


@breaks(15, fake=Unlimited)
class NeverTried(Notes):
    pass


# -- 16: texts of any length ------------------------------------------------------------------------------------------


@breaks(16)
class LetsItGrow(Notes):
    def fit(self, text: str) -> str:
        return text


@breaks(16)
class TakesTooLongForAFault(Notes):
    def fit(self, text: str) -> str:
        if len(text) > MOST_CHARACTERS:
            raise ServiceFault("perhaps a note may be longer tomorrow")
        return text


@breaks(16)
class StumblesOverManyBytes(Notes):
    """Cuts bytes, and then reads them as text."""

    def fit(self, text: str) -> str:
        return text.encode()[:MOST_CHARACTERS].decode()


@breaks(16)
class RefusesWithoutAWord(Notes):
    def fit(self, text: str) -> str:
        if len(text) > MOST_CHARACTERS:
            raise Rejected("")
        return text


@breaks(16)
class RepeatsItAll(Notes):
    def fit(self, text: str) -> str:
        if len(text) > MOST_CHARACTERS:
            raise Rejected(f"too long: {text}")
        return text
