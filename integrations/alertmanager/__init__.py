"""Prometheus Alertmanager: alerts out, webhooks in."""

from integrations.alertmanager.adapter import Alertmanager

__all__ = ["Alertmanager"]
