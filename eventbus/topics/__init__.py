"""The standard topics, one module a domain. Importing this package puts them all into the catalogue."""

from eventbus.topics.alertmanager import AlertFiring, AlertResolved
from eventbus.topics.approval import (
    ApprovalDue,
    ApprovalExpired,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalVoted,
)
from eventbus.topics.delivery import DeliveryDeadLettered, DeliveryFailing, DeliveryGapFound
from eventbus.topics.github import GitHubWebhook
from eventbus.topics.integration import (
    IntegrationDegraded,
    IntegrationDisabled,
    IntegrationDrill,
    IntegrationRecovered,
    WebhookReceived,
)
from eventbus.topics.migration import MigrationCompleted, MigrationFailed, MigrationRolledBack, MigrationStarted
from eventbus.topics.noise import NotificationDue
from eventbus.topics.pagerduty import PagerDutyWebhook
from eventbus.topics.silence import SilenceEnded, SilenceExpiring, SilenceStarted
from eventbus.topics.slack import SlackAction, SlackAppMention, SlackChannelMessage, SlackCommand
from eventbus.topics.task import TaskCompleted, TaskCreated, TaskFailed, TaskStarted
from eventbus.topics.vm import VmCreated, VmFailed, VmStarted, VmStopped

__all__ = [
    "AlertFiring",
    "AlertResolved",
    "ApprovalDue",
    "ApprovalExpired",
    "ApprovalGranted",
    "ApprovalRejected",
    "ApprovalVoted",
    "DeliveryDeadLettered",
    "DeliveryFailing",
    "DeliveryGapFound",
    "GitHubWebhook",
    "IntegrationDegraded",
    "IntegrationDisabled",
    "IntegrationDrill",
    "IntegrationRecovered",
    "MigrationCompleted",
    "MigrationFailed",
    "MigrationRolledBack",
    "MigrationStarted",
    "NotificationDue",
    "PagerDutyWebhook",
    "SilenceEnded",
    "SilenceExpiring",
    "SilenceStarted",
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
