"""`github.>`: webhooks of GitHub, as `github.<event>.<action>` or `github.<event>`. Ordered by issue or pull request,
else by repository."""

from __future__ import annotations

from pydantic import Field, JsonValue

from eventbus.payload import Payload


class GitHubWebhook(Payload, topic="github.>"):
    """GitHub told us of something. The fields are a digest; `body` is what GitHub sent.

    Old and new GitHub payloads lack or add fields, so nothing but `delivery` and `event` is certain.
    """

    delivery: str = Field(description="X-GitHub-Delivery: the same on a redelivery")
    event: str = Field(description="X-GitHub-Event, such as pull_request")
    action: str | None = Field(default=None, description="What happened to it, such as opened")
    repository: str | None = Field(default=None, description="owner/name")
    sender: str | None = Field(default=None, description="The login of who did it")
    number: int | None = Field(default=None, description="Number of the issue or pull request")
    url: str | None = Field(default=None, description="Its page")
    title: str | None = Field(default=None, description="Its title")
    ref: str | None = Field(default=None, description="The branch or tag of a push")
    ours: bool = Field(default=False, description="We caused it ourselves; then causation_id names the event, if known")
    body: dict[str, JsonValue] | None = Field(default=None, description="The whole webhook, where it is small enough")
    body_key: str | None = Field(default=None, description="Where a larger webhook is kept for a week")

    def ordering_key(self) -> str | None:
        if self.repository is None:
            return None
        return f"github:{self.repository}" if self.number is None else f"github:{self.repository}#{self.number}"

    @classmethod
    def example(cls) -> GitHubWebhook:
        return cls(
            delivery="72d3162e-cc78-11e3-81ab-4c9367dc0958",
            event="pull_request",
            action="opened",
            repository="acme/api",
            sender="ada",
            number=7,
            url="https://github.com/acme/api/pull/7",
            title="Add e-mail to users",
        )
