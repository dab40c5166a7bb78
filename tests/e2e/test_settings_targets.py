"""A route to an integration with several targets: who is posted to, and how often."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from eventbus import catalog
from integrations.webhook.fake import FakeReceiver
from tests.e2e.configured import configured, happen

SECRET = "any text that both sides know"

ROUTED = """
integrations:
  webhook:
    endpoints:
      - {{name: a, url: "${{WEBHOOK_URL}}/a", topics: [task.failed], secret: "${{SECRET}}", format: plain,
         allow_private: [127.0.0.1]}}
      - {{name: b, url: "${{WEBHOOK_URL}}/b", topics: [task.failed], secret: "${{SECRET}}", format: plain,
         allow_private: [127.0.0.1]}}
routes:
  failures: {{topics: [task.failed], to: webhook, text: "task {{{{ data.task_id }}}} failed"{target}}}
"""


@pytest.mark.parametrize(
    ("target", "posted"), [("", ["/a", "/b"]), (", target: a", ["/a"]), (", target: b", ["/b"])], ids=["all", "a", "b"]
)
async def test_a_notification_goes_once_to_each_endpoint_or_to_the_one_it_names(
    target: str, posted: list[str], tmp_path: Path
) -> None:
    async with FakeReceiver("plain") as receiver:
        receiver.trusts = [SecretStr(SECRET)]
        environ = {"WEBHOOK_URL": receiver.url, "SECRET": SECRET}
        async with configured(tmp_path, ROUTED.format(target=target), **environ) as runtime:
            await happen(runtime, catalog.event("task.failed", {"task_id": "42", "task_type": "sync", "error": "no"}))
        assert sorted(one.path for one in receiver.requests) == posted
