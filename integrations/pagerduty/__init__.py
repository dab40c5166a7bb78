"""PagerDuty: alerts, change events and incidents out; webhooks in."""

from integrations.pagerduty.adapter import PagerDuty

__all__ = ["PagerDuty"]
