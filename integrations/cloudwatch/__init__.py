"""Amazon CloudWatch: metrics."""

from integrations.cloudwatch.adapter import CloudWatch

__all__ = ["CloudWatch"]
