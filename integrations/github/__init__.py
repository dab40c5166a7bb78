"""GitHub: comments, issues and pull requests out; webhooks in."""

from integrations.github.adapter import GitHub

__all__ = ["GitHub"]
