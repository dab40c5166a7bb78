"""Rule 16: whoever writes a text decides how long it is, and that must keep nobody from hearing of it.

Each text of the events and notifications is made very long, alone and all together: in letters of one byte, in signs
of several bytes, and in what the services take for markup. The fake refuses what is over the limits that its service
publishes: so what leaves has to be accepted, and what can't be sent is refused before it leaves.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any

import pytest

from eventbus.catalog import catalog
from eventbus.errors import InvalidEvent
from eventbus.event import Event
from eventbus.payload import Payload
from integrations.base import DeliveryResult, Notification, Outcome
from integrations.errors import IntegrationError, Rejected
from integrations.testing.contract.bench import Bench, not_applicable, not_shown
from integrations.testing.contract.dry_run import ASKING
from integrations.testing.contract.effects import examples
from integrations.testing.rig import Rig, Worker
from integrations.testing.rules import rule

LENGTH = 100_000
MARKUP = '<!channel> @everyone #7 **b** `c` [l](https://example.com) </pre> & "\\ {{x}} ```\n| - <b>\t'
SIGNS = "\u6f22\U0001f600\u200d"
"""Of three, four and three bytes: who cuts bytes splits a sign of one of two texts that are a byte apart."""
TEXTS: Mapping[str, str] = {
    "of letters": "x" * LENGTH,
    "of many bytes": (SIGNS * LENGTH)[:LENGTH],
    "of a letter and many bytes": ("x" + SIGNS * LENGTH)[:LENGTH],
    "of markup": (MARKUP * LENGTH)[:LENGTH],
}
FIELDS = 12
"""Of a notification, each with a long text."""
SECONDS = 2.0
"""Of the processor, for one thing. A pattern that backtracks takes hours."""
MAX_DETAIL = 2000
"""Of a refusal: it becomes a line of a table and of a log."""


class LengthRules(Bench):
    """First by the adapter alone, then by the dispatcher: what is refused is refused once."""

    @rule(16)
    @pytest.mark.parametrize("text", TEXTS)
    async def test_a_long_text_of_an_event_is_brought_out_or_refused_before_it_leaves(
        self, rig: Rig, text: str
    ) -> None:
        events = dict(_each_long(self.event, TEXTS[text]))
        for example in (self.event, *examples(self.adapter.manifest.handles)):
            events[f"every text of {example.topic}"] = _all_long(example, TEXTS[text])
        for number, (what, event) in enumerate(events.items()):
            call = rig.handle(event, f"delivery-{number}")
            await _is_brought_out_or_refused(rig, call, f"{what}, {LENGTH:,} characters {text},")

    @rule(16)
    @pytest.mark.parametrize("text", TEXTS)
    async def test_a_long_text_of_a_notification_is_brought_out_or_refused_before_it_leaves(
        self, rig: Rig, text: str
    ) -> None:
        kinds = self.adapter.manifest.notifications
        if not kinds:
            not_applicable("it sends no notifications")
        if isinstance(refused := await _ended(self._notify(rig, self.notification, "delivery-0")), Rejected):
            not_shown(f"`notification` of the contract class is refused, give one that is sent: {refused}")
        for kind, (what, changes) in itertools.product(kinds, _long_parts(TEXTS[text]).items()):
            long = self.notification.model_copy(update={"type": kind, **changes})
            call = self._notify(rig, long, f"delivery-of-{kind}-{what}")
            await _is_brought_out_or_refused(rig, call, f"a {kind} with {what} of {LENGTH:,} characters {text}")

    @rule(16)
    async def test_an_event_with_a_long_text_is_settled_by_its_first_attempt(self, worker: Worker) -> None:
        for what, event in _each_long(self.event, TEXTS["of letters"]):
            await worker.bring(event)
            ends = await worker.outcomes(event)
            assert len(ends) == 1, f"{what} is long, and its attempts ended as {ends}: it is not too long only now"
            assert ends[0] in ("delivered", "duplicate", "skipped", "rejected"), f"{what} is long: {ends}"

    def _notify(self, rig: Rig, notification: Notification, key: str) -> Awaitable[DeliveryResult]:
        return rig.adapter.send_notification(notification, rig.delivery(key))


async def _is_brought_out_or_refused(rig: Rig, call: Awaitable[DeliveryResult], what: str) -> None:
    before, began = len(rig.service.requests), time.process_time()
    result = await _ended(call)
    took = time.process_time() - began
    assert took < SECONDS, f"{what} took {took:.1f} s of the processor"
    sent = [f"{one.method} {one.path}" for one in rig.service.requests[before:] if one.method not in ASKING]
    if isinstance(result, Rejected):
        assert not sent, f"{what} was sent ({', '.join(sent)}), and the service refused it: {result}"
        assert 0 < len(result.detail) <= MAX_DETAIL, f"{what} was refused with {len(result.detail):,} characters"
        return
    settled = getattr(result, "outcome", None) in (Outcome.DELIVERED, Outcome.DUPLICATE, Outcome.SKIPPED)
    assert settled, f"{what} became {str(result)[:MAX_DETAIL]}"


async def _ended(call: Awaitable[DeliveryResult]) -> DeliveryResult | IntegrationError:
    try:
        return await call
    except IntegrationError as error:
        return error


def _each_long(event: Event[Any], text: str) -> Iterator[tuple[str, Event[Any]]]:
    """The event with each of its texts made long, one at a time."""
    for name in _fields(event):
        if (long := _with(event, {name: text})) is not None:
            yield f"`{name}` of {event.topic}", long


def _all_long(event: Event[Any], text: str) -> Event[Any]:
    """With every text made long that may be; but addresses, and what names the thing, stay what they are."""
    data, own = _fields(event), getattr(event.data, "__key_field__", None)
    kept = {name for name, value in data.items() if name == own or str(value).startswith("http")}
    for name in set(data) - kept:
        event = _with(event, {name: text}) or event
    return event


def _fields(event: Event[Any]) -> dict[str, Any]:
    return event.data.model_dump(mode="json") if isinstance(event.data, Payload) else dict(event.data)


def _with(event: Event[Any], changes: Mapping[str, str]) -> Event[Any] | None:
    """The event with other data, an event of its own; None where its schema does not allow that."""
    try:
        return catalog.event(event.topic, {**_fields(event), **changes}, source=event.source, subject=event.subject)
    except InvalidEvent:
        return None


def _long_parts(text: str) -> dict[str, dict[str, Any]]:
    """Each text of a notification made long, and then all."""
    facts = {f"{number} {text}"[:LENGTH]: text for number in range(FIELDS)}
    parts = {"title": text, "message": text, "fields": facts, "url": f"https://example.com/{text}"[:LENGTH]}
    return {**{name: {name: value} for name, value in parts.items()}, "every text": parts}
