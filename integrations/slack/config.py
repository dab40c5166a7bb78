"""The settings of one Slack account. Secrets are SecretStr, and no validation error repeats what was given."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from eventbus.pattern import matches
from integrations.fields import Pattern, Secret
from integrations.slack.approvals import UserId


def _address(value: str) -> str:
    if not value.startswith(("https://", "http://")):
        raise ValueError("is an address that begins with https://")
    return value.rstrip("/")


def _secret_address(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        _address(value.get_secret_value())
    return value


class SlackConfig(BaseModel):
    """One Slack app in one workspace, reached with its bot token, or one channel reached with an incoming webhook."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    bot_token: Secret = Field(default=None, description="Bot User OAuth Token, xoxb-...")
    signing_secret: Secret = Field(
        default=None, description="Basic Information > Signing Secret; without it everything inbound is refused"
    )
    app_token: Secret = Field(
        default=None,
        description="App-level token with connections:write, xapp-..., for Socket Mode",
    )
    webhook_url: Annotated[Secret, AfterValidator(_secret_address)] = Field(
        default=None, description="An incoming webhook; used where there is no bot_token, for its one channel"
    )
    base_url: Annotated[str, AfterValidator(_address)] = Field(
        default="https://slack.com/api", description="The Web API; with or without a slash at the end"
    )
    default_channel: str = Field(
        default="#deployments",
        min_length=1,
        description="Where messages go that nothing else routes: #name, name or id",
    )
    channels: dict[Pattern, Annotated[str, Field(min_length=1)]] = Field(
        default_factory=dict, description='Topic pattern to channel, such as {"vm.*": "#vms"}; the first match wins'
    )
    thread_mode: Literal["update", "thread", "new"] = Field(
        default="update",
        description="What later events about the same thing do: change the first message, reply under it, or post anew",
    )
    command_prefix: str = Field(
        default="eventbus",
        pattern=r"^[a-z0-9_-]{1,20}$",
        description="Slash commands are /<prefix>-status, -vm-list, -task, -unknown and -help",
    )

    operators: tuple[UserId, ...] = Field(
        default=(),
        max_length=100,
        description="Ids of the people who may resolve calls in doubt, with /<prefix>-unknown; none: nobody in Slack",
    )

    @model_validator(mode="after")
    def _one_way_out(self) -> Self:
        if self.bot_token is None and self.webhook_url is None:
            raise ValueError("needs bot_token, or webhook_url for messages to one channel only")
        return self

    def channel_for(self, topic: str) -> str:
        """The channel for messages about this topic."""
        routed = (channel for pattern, channel in self.channels.items() if matches(pattern, topic))
        return next(routed, self.default_channel)
