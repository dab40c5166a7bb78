"""Does nothing but say, in the program's own log, what it was asked to do."""

from integrations.log.adapter import Log

__all__ = ["Log"]
