"""How a service's webhooks are made and signed: what rule 12 has to know, and each fake knows already."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Any

from integrations.base import InboundRequest


class Webhooks(ABC):
    """Subclass it, and give an instance as `inbound` of the contract class. `service` is the running fake.

    proof   the header, in lower case, that proves who sent it: a signature, or a password where nothing is signed
    signed  whether the proof is made from the body, so that another body needs another one
    stale   how old a webhook may become; None: the service gives no time, so nobody can tell
    """

    proof: str
    signed: bool = True
    stale: timedelta | None = None

    @abstractmethod
    def genuine(self, service: Any, number: int) -> InboundRequest:
        """A webhook that becomes at least one event. Another number is about something else that happened."""

    @abstractmethod
    def of_unknown_kind(self, service: Any) -> InboundRequest:
        """A genuine one of a kind that the service may add tomorrow."""

    @abstractmethod
    def proven(self, service: Any, body: bytes) -> InboundRequest:
        """Any bytes, with the proof that the service would give them."""
