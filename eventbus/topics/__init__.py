"""The standard topics, one module a domain. Importing this package puts them all into the catalogue."""

from eventbus.topics.approval import (
    ApprovalDue,
    ApprovalExpired,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalVoted,
)
from eventbus.topics.delivery import DeliveryDeadLettered, DeliveryGapFound
from eventbus.topics.github import GitHubWebhook
from eventbus.topics.integration import IntegrationDegraded, IntegrationDisabled, IntegrationRecovered, WebhookReceived
from eventbus.topics.migration import MigrationCompleted, MigrationFailed, MigrationRolledBack, MigrationStarted
from eventbus.topics.pagerduty import PagerDutyWebhook
from eventbus.topics.slack import SlackAction, SlackAppMention, SlackChannelMessage, SlackCommand
from eventbus.topics.task import TaskCompleted, TaskCreated, TaskFailed, TaskStarted
from eventbus.topics.vm import VmCreated, VmFailed, VmStarted, VmStopped

__all__ = [
    "ApprovalDue",
    "ApprovalExpired",
    "ApprovalGranted",
    "ApprovalRejected",
    "ApprovalVoted",
    "DeliveryDeadLettered",
    "DeliveryGapFound",
    "GitHubWebhook",
    "IntegrationDegraded",
    "IntegrationDisabled",
    "IntegrationRecovered",
    "MigrationCompleted",
    "MigrationFailed",
    "MigrationRolledBack",
    "MigrationStarted",
    "PagerDutyWebhook",
    "SlackAction",
    "SlackAppMention",
    "SlackChannelMessage",
    "SlackCommand",
    "TaskCompleted",
    "TaskCreated",
    "TaskFailed",
    "TaskStarted",
    "VmCreated",
    "VmFailed",
    "VmStarted",
    "VmStopped",
    "WebhookReceived",
]
