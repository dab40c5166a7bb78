"""Rule 12: of what comes in, only what is genuine, fresh and new becomes an event."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from eventbus import EventBus
from eventbus.pattern import matches_any
from integrations.base import Inbound, InboundReply, InboundRequest
from integrations.errors import Refusal, Replayed, Unauthorized
from integrations.testing.contract.bench import Bench, not_applicable, not_shown
from integrations.testing.contract.webhooks import Webhooks
from integrations.testing.rig import Rig
from integrations.testing.rules import rule

BIG = 5_000_000
"""Bytes of a body that nobody should choke on."""
SECONDS = 2.0
"""Of a processor's time for the worst body: Slack waits three (docs.slack.dev, Events API), most others longer."""
DEEP = 100_000

HOSTILE: Mapping[str, bytes] = {
    "that is not UTF-8": b'{"a": "\xff\xfe"}',
    "that is not JSON": b"<html>",
    "that is empty": b"",
    "that is a list": b"[1, 2, 3]",
    "of nested lists": b"[" * DEEP + b"]" * DEEP,
    "of 5 MB": b'{"a": "' + b"x" * BIG + b'"}',
}


class InboundRules(Bench):
    """The requests come from `inbound`; they are altered here."""

    @rule(12)
    async def test_a_genuine_webhook_becomes_an_event_that_the_manifest_names(self, rig: Rig) -> None:
        adapter, webhooks = self._receiver(rig)
        reply = await adapter.receive(webhooks.genuine(rig.service, 1))
        assert 200 <= reply.status < 300, f"a genuine webhook is answered with {reply.status}"
        assert reply.events, "a genuine webhook became no event"
        strange = [one.topic for one in reply.events if not matches_any(rig.adapter.manifest.emits, one.topic)]
        assert not strange, f"the manifest's `emits` does not name {strange}"

    @rule(12)
    @pytest.mark.parametrize("proof", ["missing", "wrong", "empty", "of another character set"])
    async def test_a_webhook_without_its_proof_publishes_nothing(self, rig: Rig, proof: str) -> None:
        adapter, webhooks = self._receiver(rig)
        genuine = webhooks.genuine(rig.service, 1)
        given = genuine.headers[webhooks.proof]
        others = {"wrong": given[:-1] + ("0" if given[-1] != "0" else "1"), "empty": "", "missing": None}
        headers = {**genuine.headers, webhooks.proof: others.get(proof, given + "\u00e9")}
        forged = replace(genuine, headers={name: value for name, value in headers.items() if value is not None})
        await self._is_turned_away(adapter, forged, f"a webhook whose {webhooks.proof} is {proof}")

    @rule(12)
    async def test_a_webhook_whose_body_was_changed_publishes_nothing(self, rig: Rig) -> None:
        adapter, webhooks = self._receiver(rig)
        if not webhooks.signed:
            not_applicable("the service does not sign its webhooks")
        genuine = webhooks.genuine(rig.service, 1)
        await self._is_turned_away(adapter, replace(genuine, body=genuine.body + b" "), "a webhook that was changed")

    @rule(12)
    async def test_a_webhook_that_is_too_old_publishes_nothing(self, rig: Rig) -> None:
        adapter, webhooks = self._receiver(rig)
        if webhooks.stale is None:
            not_applicable("the service gives no time with its webhooks")
        genuine = webhooks.genuine(rig.service, 1)
        age = webhooks.stale + timedelta(seconds=1)
        late = replace(genuine, received_at=genuine.received_at + age.total_seconds())
        reply = await _received(adapter, late)
        published = isinstance(reply, InboundReply) and reply.events
        assert not published, f"a webhook that is over {webhooks.stale} old became {reply}"

    @rule(12)
    async def test_a_webhook_that_is_played_again_publishes_nothing_new(self, rig: Rig) -> None:
        adapter, webhooks = self._receiver(rig)
        genuine = webhooks.genuine(rig.service, 1)
        async with EventBus.open("memory://") as bus:
            statuses = []
            for request in (genuine, genuine, webhooks.genuine(rig.service, 2)):
                reply = await _received(adapter, request)
                if isinstance(reply, Replayed):
                    statuses.append({"duplicate"})
                    continue
                assert isinstance(reply, InboundReply), f"a genuine webhook was turned away: {reply!r}"
                receipts = await bus.publish_many(reply.events, remember=reply.remember)
                statuses.append({receipt.status for receipt in receipts})
        first, again, other = statuses
        assert again == {"duplicate"}, "the same webhook a second time became new events: give them the service's id"
        assert "duplicate" not in first | other, f"another webhook was taken for a repeat: {other}"

    @rule(12)
    @pytest.mark.parametrize("what", HOSTILE)
    async def test_a_hostile_body_is_turned_away_or_taken_and_harms_nobody(self, rig: Rig, what: str) -> None:
        """Proven, as if the service itself had gone mad; and unproven, as from anybody."""
        adapter, webhooks = self._receiver(rig)
        proven = webhooks.proven(rig.service, HOSTILE[what])
        began = time.process_time()
        reply = await _received(adapter, proven)
        took = time.process_time() - began
        assert took < SECONDS, f"a body {what} took {took:.1f} s of the processor"
        assert isinstance(reply, InboundReply | Refusal), f"a body {what} became {reply!r}"
        unproven = {name: value for name, value in proven.headers.items() if name != webhooks.proof}
        await self._is_turned_away(adapter, replace(proven, headers=unproven), f"a body {what}, without its proof,")

    @rule(12)
    async def test_a_webhook_of_an_unknown_kind_is_answered(self, rig: Rig) -> None:
        """Some services switch a webhook off that is refused again and again."""
        adapter, webhooks = self._receiver(rig)
        reply = await _received(adapter, webhooks.of_unknown_kind(rig.service))
        assert isinstance(reply, InboundReply), f"a webhook of a kind that is new became {reply!r}"
        assert 200 <= reply.status < 300, f"a webhook of a kind that is new is answered with {reply.status}"

    def _receiver(self, rig: Rig) -> tuple[Inbound, Webhooks]:
        if not isinstance(rig.adapter, Inbound):
            not_applicable("the service does not call us")
        if self.inbound is None:
            not_shown("the contract class has no `inbound`: say there how the service's webhooks are made and signed")
        return rig.adapter, self.inbound

    async def _is_turned_away(self, adapter: Inbound, request: InboundRequest, what: str) -> None:
        reply = await _received(adapter, request)
        assert isinstance(reply, Refusal), f"{what} became {reply!r}"
        told = isinstance(reply, Unauthorized) or reply.status in (400, 401, 403, 413)
        assert told, f"{what} is answered with {reply.status}"


async def _received(adapter: Inbound, request: InboundRequest) -> Any:
    """The reply, or whatever was raised instead."""
    try:
        return await adapter.receive(request)
    except Exception as error:  # noqa: BLE001  what it is, the test judges
        return error
