"""What a drill sends: the marked notification and the delivery it belongs to, the same for all who take part in it.

A worker performs it on the event `integration.drill.NAME`, in the group of the integration; `service.drill` asks for it
and follows it. It has a thread of its own, so that what the adapter wants to remember is found by both.
"""

from __future__ import annotations

from eventbus.topics.integration import IntegrationDrill
from integrations.base import Delivery, Notification, Severity

DRILL = "integration.drill"
"""Followed by the integration's name, so that each gets its own drills only."""


def marked(to: str) -> Notification:
    """What is sent: marked, and loud enough to open an incident where that is what the service does."""
    said = "Somebody tries out whether messages arrive here. Nothing is wrong, and nothing has to be done."
    return Notification(title="[drill] eventbus", message=said, target=to, severity=Severity.WARNING)


def delivery_of(drill: IntegrationDrill) -> Delivery:
    """Its key, target and thread."""
    return Delivery(f"drill:{drill.integration}:{drill.drill}", drill.target, thread=f"drill:{drill.drill}")
