"""Slack: messages about events out; slash commands, buttons, mentions and channel messages in. See README.md."""

from integrations.slack.adapter import Slack
from integrations.slack.config import SlackConfig

__all__ = ["Slack", "SlackConfig"]
