"""Routes as a file has them, and events to try them with."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

import eventbus.topics as _standard_topics  # noqa: F401  puts them into the catalogue
from eventbus import Event, catalog
from registry.routes.model import Inhibitions, Route, Routing, Runbooks, Windows

_routes = TypeAdapter(dict[str, Route])
_runbooks = TypeAdapter(Runbooks)
_windows = TypeAdapter(Windows)
_inhibitions = TypeAdapter(Inhibitions)


def routing(routes: dict[str, Any], runbooks: Any = None, windows: Any = None, inhibitions: Any = None) -> Routing:
    """The value of what a file would say."""
    return Routing(
        _routes.validate_python(routes),
        _runbooks.validate_python(runbooks or {}),
        _windows.validate_python(windows or {}),
        _inhibitions.validate_python(inhibitions or {}),
    )


def failed(**data: Any) -> Event[Any]:
    """A migration that failed; None takes a field away."""
    whole = {
        "migration": "add_email",
        "environment": "production",
        "error": "lock timeout",
        "error_type": "TimeoutError",
    }
    return catalog.event("migration.failed", {k: v for k, v in {**whole, **data}.items() if v is not None})
