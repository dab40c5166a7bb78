"""Structured logs: one line an event, for people on a terminal and for machines elsewhere.

Libraries log through the same lines, from WARNING on: httpx and slack_sdk write URLs and headers below that, and those
hold secrets. Control characters and terminal sequences in values are escaped, so that no event can forge a line.
"""

from __future__ import annotations

import logging
import sys
import unicodedata
from collections.abc import Callable
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

MAX_VALUE_CHARACTERS = 2000
MAX_SEEN_CHARACTERS = 10 * MAX_VALUE_CHARACTERS
"""Of a value that is endless, so much is looked at. More than what stays: a secret that the cut would go through has to
be found whole first."""


def configure(level: str, style: Literal["auto", "console", "json"], *, colors: bool | None = None) -> None:
    """Set up logging for this process; lines go to standard error."""
    terminal = sys.stderr.isatty()
    console = style == "console" or (style == "auto" and terminal)
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=terminal if colors is None else colors, pad_event_to=24)
        if console
        else structlog.processors.JSONRenderer(sort_keys=True)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_first(console=console),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        formatter(structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer, console=console)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("eventbus", "registry", "delivery", "service", "integrations"):
        logging.getLogger(name).setLevel(level.upper())


def formatter(
    *last: Processor, console: bool = False, redact: Callable[[str], str] = lambda text: text
) -> logging.Formatter:
    """Makes text of what our loggers and those of libraries say; the last of `last` returns it.

    `redact` sees a value that is cut before it is; the others it has to see in what `last` makes.
    """

    def cut(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {key: _cut(value, redact) if isinstance(value, str) else value for key, value in event.items()}

    processors: list[Processor] = [cut, structlog.processors.format_exc_info, *last]
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_first(console=console), processors=processors)


def _first(*, console: bool) -> list[Processor]:
    """What every line goes through, whoever says it."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
        clean,
    ]


def clean(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape what could forge a line or move a cursor."""
    return {
        key: escaped(value[:MAX_SEEN_CHARACTERS]) if isinstance(value, str) else value for key, value in event.items()
    }


def _cut(text: str, redact: Callable[[str], str]) -> str:
    if len(text) <= MAX_VALUE_CHARACTERS:
        return text
    return redact(text)[:MAX_VALUE_CHARACTERS] + "..."


def escaped(text: str) -> str:
    """The text in which nothing ends a line or drives a terminal."""
    if text.isprintable():  # nearly all are
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") else c for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def bind(**values: Any) -> None:
    """Put values on every further line of this process."""
    structlog.contextvars.bind_contextvars(**values)
