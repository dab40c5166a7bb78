"""Rule 9: what a dry run shows is what would leave, and nothing leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from integrations.base import Integration, Preview
from integrations.http import HIDDEN
from integrations.testing.contract.bench import Bench, not_applicable, not_shown
from integrations.testing.fake import FakeService, Recorded
from integrations.testing.rig import Rig, at_work
from integrations.testing.rules import rule

ASKING = ("GET", "HEAD")
"""Requests with these methods change nothing (RFC 9110, section 9.2.1): a preview need not show them."""


class DryRunRules(Bench):
    """A dry run goes the whole way except for the last step; the preview and the request are made of the same."""

    @rule(9)
    async def test_a_preview_shows_a_plan_and_sends_nothing(self, rig: Rig) -> None:
        previews = self._previews(rig)
        assert previews, "the event causes an effect, and its preview is empty"
        assert all(one.doing for one in previews), f"each request of a preview says in words what it does: {previews}"
        assert rig.service.requests == [], f"a preview sent {rig.service.requests}"

    @rule(9)
    async def test_what_is_sent_is_what_the_preview_showed(self, rig: Rig) -> None:
        if not self.has_service:
            not_applicable("it has no service")
        previews = self._previews(rig)
        await rig.handle(self.another(0), key="delivery-0")  # what an adapter looks up once is looked up now
        before = len(rig.service.requests)
        await rig.handle(self.event)
        sent = [one for one in rig.service.requests[before:] if one.method not in ASKING]
        assert len(sent) == len(previews), f"shown were {len(previews)} requests, sent {_lines(sent)}"
        for shown, real in zip(previews, sent, strict=True):
            _compare(shown, real)

    @rule(9)
    async def test_a_dry_run_at_work_sends_nothing_and_says_what_it_would_do(self, service: FakeService) -> None:
        async with at_work(self.adapter, service, self.event.topic, dry_run=True) as worker:
            before = len(service.requests)
            previews = self._previews(Rig(worker.account.adapter, service))
            await worker.bring(self.event)
            assert service.requests[before:] == [], f"a dry run sent {_lines(service.requests[before:])}"
            assert service.effects() == [], f"a dry run made {service.effects()}"
            (line,) = await worker.trail(self.event)
        assert str(line["detail"]).startswith("dry run: "), f"the trail says of a dry run: {line}"
        assert previews[0].doing in str(line["detail"]), f"the trail does not say what would be done: {line}"

    def _previews(self, rig: Rig) -> Sequence[Preview]:
        if type(rig.adapter).preview is Integration.preview:
            not_shown("the adapter has no preview()")
        return rig.adapter.preview(self.event, rig.delivery("delivery-1"))


def _compare(shown: Preview, real: Recorded) -> None:
    """Method, path and body; what a preview hides may be anything."""
    method, _, address = shown.request.partition(" ")
    path = urlsplit(address).path if HIDDEN not in address else ""
    assert method == real.method, f"shown was {shown.request}, sent {real.method} {real.path}"
    assert path in ("", "/", real.path.partition("?")[0]), f"shown was {shown.request}, sent {real.method} {real.path}"
    expected, found = _parsed(shown.body), _parsed(real.body.decode("utf-8", "replace"))
    assert _same(expected, found), f"the body that was shown:\n{shown.body}\nthat was sent:\n{real.body.decode()}"


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _same(shown: Any, real: Any) -> bool:
    if isinstance(shown, dict) and isinstance(real, dict):
        return shown.keys() == real.keys() and all(_same(value, real[name]) for name, value in shown.items())
    return bool(shown in (real, HIDDEN))


def _lines(requests: Sequence[Recorded]) -> list[str]:
    return [f"{one.method} {one.path}" for one in requests]
