"""Rules 3, 4 and 5: one event makes one effect, whatever is repeated, lost or cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

import eventbus.failpoint
from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.failpoint import Failpoints, parse
from eventbus.pattern import is_wildcard, matches_any
from integrations.base import DeliveryResult, Outcome, Reconciles
from integrations.errors import IntegrationError, OutcomeUnknown
from integrations.testing.contract.bench import Bench, not_applicable
from integrations.testing.rig import Rig, Worker
from integrations.testing.rules import rule

AT_ONCE = 20
"""Events that are handled at the same time in one test."""


class EffectRules(Bench):
    """What exists at the fake afterwards is counted; what the adapter says of itself is not believed."""

    @rule(3)
    async def test_one_event_makes_one_effect(self, rig: Rig) -> None:
        result = await rig.handle(self.event)
        assert result.outcome is Outcome.DELIVERED, f"the service did its part, and the result is {result}"
        assert len(rig.service.effects()) == 1, f"one event made these effects: {rig.service.effects()}"

    @rule(3)
    async def test_every_topic_it_takes_is_rendered(self, rig: Rig) -> None:
        for event in examples(self.adapter.manifest.handles):
            result = await rig.outcome(event, key=f"delivery-of-{event.topic}")
            told = isinstance(result, DeliveryResult | IntegrationError)
            assert told, f"the example of {event.topic} became {result!r}"

    @rule(3)
    async def test_events_that_come_together_make_one_effect_each(self, rig: Rig) -> None:
        events = [self.another(number) for number in range(AT_ONCE)]
        await asyncio.gather(*(rig.handle(event, f"delivery-{number}") for number, event in enumerate(events)))
        made = rig.service.effects()
        assert len(made) == len(set(made)) == AT_ONCE, f"{AT_ONCE} events at once made {len(made)} effects: {made}"

    @rule(4)
    async def test_a_repeated_key_makes_no_second_effect_where_the_manifest_says_so(self, rig: Rig) -> None:
        if rig.adapter.manifest.effects not in ("keyed", "repeatable"):
            not_applicable("the service can't know a repeat; the ledger prevents it")
        await rig.handle(self.event)
        await rig.handle(self.event)
        assert len(rig.service.effects()) == 1, f"one key made these effects: {rig.service.effects()}"

    @rule(4)
    async def test_an_event_that_is_delivered_again_makes_no_second_effect(self, worker: Worker) -> None:
        await worker.bring(self.event)
        await worker.bus.replay(worker.group, since=self.event.time)
        await worker.bus.run_until_idle()
        assert len(worker.service.effects()) == 1, f"replayed, one event made these: {worker.service.effects()}"

    @rule(5)
    async def test_a_lost_answer_leaves_the_outcome_unknown(self, rig: Rig) -> None:
        await self._lose_the_answer(rig, committed=True)
        assert len(rig.service.effects()) == 2, "the fake was told to carry the request out"

    @rule(5)
    async def test_an_effect_whose_answer_was_lost_is_found(self, rig: Rig) -> None:
        await self._lose_the_answer(rig, committed=True)
        found = await self._reconciler(rig).find(self.event, rig.delivery("delivery-1"))
        assert found is not None, "the effect exists at the service, and find says that it surely does not"
        assert found.outcome in (Outcome.DELIVERED, Outcome.DUPLICATE), f"the effect exists, and find says {found}"

    @rule(5)
    async def test_an_effect_that_never_came_to_be_is_not_found(self, rig: Rig) -> None:
        await self._lose_the_answer(rig, committed=False)
        found = await self._reconciler(rig).find(self.event, rig.delivery("delivery-1"))
        assert found is None, f"no effect of this key exists at the service, and find says {found}"

    @rule(5)
    async def test_a_look_up_that_fails_is_not_taken_for_absence(self, rig: Rig) -> None:
        reconciler = self._reconciler(rig)
        rig.service.go_down()
        with pytest.raises(IntegrationError):
            await reconciler.find(self.event, rig.delivery("delivery-1"))

    @rule(5)
    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_an_answer_that_is_lost_at_work_leaves_one_effect_or_a_parked_delivery(
        self, worker: Worker, when: Any
    ) -> None:
        worker.service.swallow(when)
        await worker.bring(self.event)
        await self._is_done_once_or_parked(worker)

    @rule(5)
    @pytest.mark.parametrize("place", ["effect.after_intent", "effect.after_call", "effect.before_done"])
    async def test_a_crash_at_work_leaves_one_effect_or_a_parked_delivery(
        self, worker: Worker, place: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`after_call` is the worst moment: the service has done it, and nobody has written that down."""
        monkeypatch.setattr(eventbus.failpoint, "_armed", Failpoints(parse(f"{place}:1:raise"), ""))
        await worker.bring(self.event)
        await self._is_done_once_or_parked(worker)

    async def _is_done_once_or_parked(self, worker: Worker) -> None:
        made, dead = worker.service.effects(), await worker.dead()
        assert len(made) <= 1, f"one event made these effects: {made}"
        parked = [letter for letter in dead if letter.reason == "unknown"]
        assert dead == parked, f"what nobody knows is looked up, repeated or parked, not given up: {dead}"
        effects = worker.account.adapter.manifest.effects
        assert effects == "at_least_once" or not parked, f"its effects are {effects}, and it was parked: {dead}"
        assert made or parked, f"the event was lost: no effect, nothing parked; {await worker.trail(self.event)}"

    async def _lose_the_answer(self, rig: Rig, *, committed: bool) -> None:
        await rig.handle(self.another(0), key="delivery-0")  # what an adapter looks up once is looked up now
        rig.service.swallow("after" if committed else "before")
        result = await rig.outcome(self.event)
        unknown = isinstance(result, OutcomeUnknown) or getattr(result, "outcome", None) is Outcome.UNKNOWN
        assert unknown, f"no answer came to a request that had left, and that became {result!r}"

    def _reconciler(self, rig: Rig) -> Reconciles:
        if rig.adapter.manifest.effects != "searchable":
            not_applicable("the manifest promises no look-up")
        assert isinstance(rig.adapter, Reconciles), "the manifest says searchable, and the adapter has no find()"
        return rig.adapter


def examples(patterns: Iterable[str]) -> Iterator[Event[Any]]:
    """The catalogue's example for every topic that the patterns take; a family is shown by a topic `example`.

    A payload class that offers no example shows nothing.
    """
    topics = {pattern for pattern in patterns if not is_wildcard(pattern)}
    topics |= {cls.__topic__.replace("*", "example").replace(">", "example") for cls in catalog}
    for topic in sorted(topic for topic in topics if matches_any(patterns, topic)):
        cls = catalog.find(topic)
        example = None if cls is None else cls.example()
        if cls is None or example is not None:
            yield catalog.event(topic, example)
