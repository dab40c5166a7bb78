"""Mail keeps the contract of every adapter: `pytest --integration email` runs this."""

from __future__ import annotations

from datetime import timedelta

import pytest

from eventbus.catalog import catalog
from eventbus.topics import TaskFailed
from integrations.email import client
from integrations.email.adapter import Email
from integrations.email.fake import FakeMail
from integrations.errors import RateLimited
from integrations.testing.contract import AdapterContract, Rig
from integrations.testing.fake import FakeService


class TestEmail(AdapterContract):
    """One mail server, with a login."""

    adapter = Email
    fake = FakeMail
    event = catalog.event(TaskFailed(task_id="task-42", error="2 of 310 tests failed"))

    @pytest.fixture(autouse=True)
    def _waits_a_second(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No answer of SMTP names a time, so it is ours, and for a test too long."""
        monkeypatch.setattr(client, "WAIT", timedelta(seconds=1))

    def keep_limits(self, service: FakeService) -> None:
        assert isinstance(service, FakeMail)
        service.per_minute = 60

    async def test_a_rate_limit_is_passed_on_with_its_time(self, rig: Rig) -> None:
        """Ours, as said above; the dispatcher keeps it, which the suite looks at as well."""
        rig.service.fail(429)
        result = await rig.outcome(self.event)
        assert isinstance(result, RateLimited)
        assert result.retry_after == client.WAIT

    async def test_what_is_sent_is_what_the_preview_showed(self, rig: Rig) -> None:
        """A mail leaves encoded, with its date and a second time as HTML; compared is what it says."""
        assert isinstance(rig.service, FakeMail)
        (preview,) = rig.adapter.preview(self.event, rig.delivery("delivery-1"))
        await rig.handle(self.event)
        (mail,) = rig.service.mails
        head, _, text = preview.body.partition("\n\n")
        sent = dict(mail.message.items())
        del sent["Date"]
        assert dict(line.split(": ", 1) for line in head.split("\n")) == sent
        assert text == mail.text
