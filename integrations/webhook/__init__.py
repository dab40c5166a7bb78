"""Signed webhooks: every event as one POST to each endpoint that asks for it."""

from integrations.webhook.adapter import Webhook

__all__ = ["Webhook"]
