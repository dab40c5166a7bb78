"""E-mail over SMTP: the way to reach a person who has nothing else open."""

from integrations.email.adapter import Email

__all__ = ["Email"]
