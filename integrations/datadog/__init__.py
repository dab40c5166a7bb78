"""Datadog: metrics and events, through an Agent's DogStatsD or the HTTP API."""

from integrations.datadog.adapter import Datadog

__all__ = ["Datadog"]
