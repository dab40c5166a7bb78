"""`slack.*`: what people do in Slack: slash commands, buttons, mentions, messages."""

from __future__ import annotations

from pydantic import Field

from eventbus.payload import Payload


class _Slack(Payload):
    team_id: str | None = Field(default=None, description="The workspace")
    channel_id: str | None = Field(default=None, description="Where")
    user_id: str | None = Field(default=None, description="Who")


class SlackCommand(_Slack, topic="slack.command.*"):
    """Somebody typed a slash command; the topic ends with its name without the prefix."""

    command: str = Field(description="As typed, such as /aetherium-status")
    text: str = Field(default="", description="What followed it")
    response_url: str | None = Field(default=None, description="Takes the answer: 5 posts within 30 minutes")

    @classmethod
    def example(cls) -> SlackCommand:
        return cls(team_id="T1", channel_id="C1", user_id="U1", command="/aetherium-status")


class SlackAction(_Slack, topic="slack.action.*"):
    """Somebody pressed a button; the topic ends with its action id."""

    action_id: str = Field(description="As given when the message was made")
    value: str | None = Field(default=None, description="The button's value")
    message_ts: str | None = Field(default=None, description="The message it belongs to")
    response_url: str | None = Field(default=None, description="Takes the answer: 5 posts within 30 minutes")

    @classmethod
    def example(cls) -> SlackAction:
        return cls(team_id="T1", channel_id="C1", user_id="U1", action_id="approve", value="task-42")


class SlackAppMention(_Slack, topic="slack.app_mention"):
    """Somebody named the app in a message."""

    text: str = Field(description="The message, in Slack's markup")
    ts: str = Field(description="The message's id within its channel")
    thread_ts: str | None = Field(default=None, description="The thread it stands in")

    def ordering_key(self) -> str | None:
        return None if self.channel_id is None else f"slack:{self.channel_id}"

    @classmethod
    def example(cls) -> SlackAppMention:
        return cls(team_id="T1", channel_id="C1", user_id="U1", text="<@UBOT> status", ts="1714000000.000100")


class SlackChannelMessage(_Slack, topic="slack.message.channels"):
    """A message in a public channel that the app is in."""

    text: str = Field(default="", description="The message, in Slack's markup")
    ts: str = Field(description="The message's id within its channel")
    thread_ts: str | None = Field(default=None, description="The thread it stands in")
    subtype: str | None = Field(default=None, description="Slack's kind of message, such as bot_message")

    def ordering_key(self) -> str | None:
        return None if self.channel_id is None else f"slack:{self.channel_id}"

    @classmethod
    def example(cls) -> SlackChannelMessage:
        return cls(team_id="T1", channel_id="C1", user_id="U1", text="deploy is out", ts="1714000000.000200")
