"""Counts what events measure, and shows the numbers to a Prometheus that scrapes them."""

from integrations.prometheus.adapter import Prometheus

__all__ = ["Prometheus"]
