"""Acme Tickets: failed tasks become tickets, notifications become comments on them."""

from acme_tickets.adapter import AcmeTickets

__all__ = ["AcmeTickets"]
