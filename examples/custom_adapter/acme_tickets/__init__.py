"""Acme Tickets: failed tasks become tickets, and what happens to a ticket becomes an event."""

from acme_tickets.adapter import AcmeTickets

__all__ = ["AcmeTickets"]
