from __future__ import annotations

from collections.abc import Awaitable, Callable

from integrations.base import Artifact, Delivery, Notification
from integrations.slack import Slack
from integrations.slack.fake import FakeSlack
from integrations.slack.plan import permalink

MakeSlack = Callable[..., Awaitable[Slack]]
HELLO = Notification(message="hello", target="#vms")


def asked(fake: FakeSlack) -> int:
    return sum("auth.test" in request.path for request in fake.requests)


def test_a_link_has_the_form_that_slack_documents() -> None:
    # docs.slack.dev, chat.getPermalink, "Example responses"
    url = "https://ghostbusters.slack.com/archives/C1H9RESGA/p135854651500008"
    assert permalink("https://ghostbusters.slack.com/", "C1H9RESGA", "1358546515.00008") == url
    assert permalink("", "C1H9RESGA", "1358546515.00008") is None


async def test_a_message_has_a_link_and_the_workspace_is_asked_for_once(slack: Slack, fake: FakeSlack) -> None:
    results = [await slack.send_notification(HELLO, Delivery(str(n))) for n in range(3)]
    assert [result.url for result in results] == [
        f"{fake.url}/archives/C0VMS/p{message.ts.replace('.', '')}" for message in fake.messages
    ]
    assert asked(fake) == 1
    found = await slack.find(HELLO, Delivery("1"))
    assert found is not None
    assert found.url == results[1].url


async def test_an_approval_has_a_link(slack: Slack, fake: FakeSlack) -> None:
    result = await slack.create_artifact(Artifact(type="approval", content={"title": "Deploy?"}), Delivery("k"))
    assert result.url == f"{fake.url}/archives/C0DEPLOYS/p{fake.messages[0].ts.replace('.', '')}"


async def test_without_the_address_of_the_workspace_a_message_is_delivered_all_the_same(
    slack: Slack, fake: FakeSlack
) -> None:
    fake.pass_on(1)
    fake.swallow("before")
    for number in range(2):  # it is not asked for again before each message
        assert (await slack.send_notification(HELLO, Delivery(str(number)))).url is None
    assert (len(fake.messages), asked(fake)) == (2, 1)
    assert (await slack.health()).state == "healthy"
    assert (await slack.send_notification(HELLO, Delivery("3"))).url is not None


async def test_a_token_that_lacks_a_needed_scope_is_degraded_and_says_which(slack: Slack, fake: FakeSlack) -> None:
    fake.scopes -= {"channels:history", "im:write"}
    health = await slack.health()
    assert health.state == "degraded"
    assert "the token lacks channels:history: add under OAuth & Permissions" in health.detail
    fake.scopes |= {"channels:history"}
    assert (await slack.health()).state == "healthy"
