"""A typed event bus on Redis: publish once, every subscription acts on it, in order."""

from eventbus import topics as topics  # puts the standard topics into the catalogue
from eventbus.catalog import catalog
from eventbus.event import Event, Payload

__all__ = ["Event", "Payload", "catalog"]
