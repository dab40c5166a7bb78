"""What every command does the same way: find the settings, run asynchronous work, and turn errors into exit codes.

0  done
1  failed: the event, the notification, a component that is not healthy, books that have gaps
2  usage or configuration: nothing was done
3  nothing fits: no such dead letter, no such group
4  refused until you say so: a backlog would be thrown away
5  Redis can't be reached
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from pydantic import SecretStr, ValidationError

from eventbus import EventBusError, Full, Misconfigured, Unavailable
from integrations.errors import IntegrationError
from integrations.errors import Misconfigured as AdapterMisconfigured
from registry.act import Busy, KeyReused
from registry.discovery import ENTRY_POINT_GROUP, OURS, discover
from registry.faults import describe as describe_fault
from registry.judgement import describe
from registry.registry import UnknownIntegration
from registry.settings import ConfigError, Events, Settings
from service import logs
from service.wiring import read_settings

FAILED = 1
USAGE = 2
NOTHING = 3
REFUSED = 4
UNREACHABLE = 5

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def settings_options(command: F) -> F:
    """The options `--config` and `--url`."""
    command = click.option(
        "--url",
        envvar="EVENTBUS_URL",
        metavar="ADDRESS",
        help="Where the bus is, instead of the file's: memory:// embedded://DIR redis://HOST:PORT/DB rediss://...",
    )(command)
    return click.option(
        "--config",
        "path",
        envvar="EVENTBUS_CONFIG",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Settings file; without one the defaults hold: embedded://./data and the log integration.",
    )(command)


def json_option(command: F) -> F:
    """The option `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="JSON for machines instead of text for people.")(
        command
    )


def load_settings(path: Path | None, url: str | None, *, log_level: str | None = None) -> Settings:
    """The settings, with logging set up by them. Ends the program with 2 when they don't hold."""
    if path is not None and not path.exists():
        fail(f"there is no file {path}", USAGE)
    try:
        settings = read_settings(path)
    except ConfigError as error:
        fail(str(error), USAGE)
    if url is not None:
        settings = settings.model_copy(update={"events": _elsewhere(settings.events, url)})
    logs.configure(log_level or settings.log.level, settings.log.format)
    return settings


def bus_address(path: Path | None, url: str | None) -> str:
    """Where the bus is, for a command that needs no integration.

    Ours are imported only to check a file: what they stand on takes a second to load.
    """
    return bus_events(path if url is None else None, url).url.get_secret_value()


def bus_events(path: Path | None, url: str | None) -> Events:
    """Where the bus is and how safely it keeps what is published."""
    if path is not None:
        return load_settings(path, url, log_level="error").events
    events = Events() if url is None else _events(url)
    logs.configure("error", "auto")
    load_foreign_topics()
    return events


def load_foreign_topics() -> None:
    """Import the adapters of third parties, which may put topics of their own into the catalogue; ours have none."""
    entries = metadata.entry_points(group=ENTRY_POINT_GROUP)
    discover(entry for entry in entries if entry.dist is None or entry.dist.name != OURS)


def _events(url: str) -> Events:
    try:
        return Events(url=SecretStr(url))
    except ValidationError as error:
        fail(f"--url (or EVENTBUS_URL) {describe_fault(error.errors()[0], url)}", USAGE)


def _elsewhere(events: Events, url: str) -> Events:
    """At another address: as safe, but the spool and what was accepted of a server are of the file's address alone."""
    there = _events(url)
    if there.url == events.url:
        return events
    return there.model_copy(update={"durability": events.durability, "replicas": events.replicas})


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it; errors become one line on standard error and an exit code."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        sys.exit(130)
    except (Misconfigured, AdapterMisconfigured, ConfigError) as error:
        fail(str(error), USAGE)
    except Full as error:
        fail(str(error), FAILED)
    except Unavailable as error:
        fail(str(error), UNREACHABLE)
    except (EventBusError, UnknownIntegration) as error:
        fail(str(error), FAILED)
    except (IntegrationError, Busy, KeyReused, TimeoutError) as error:
        fail(describe(error), FAILED)


def json_object(said: str | bytes) -> dict[str, Any]:
    """An event's data as it was typed. Ends the program with 2 when it is no JSON object."""
    try:
        body = json.loads(said)
    except (ValueError, RecursionError) as error:
        fail(f"the data is not JSON: {error}", USAGE)
    if not isinstance(body, dict):
        fail(f"the data is a JSON {type(body).__name__}; an event carries an object, such as {{}}", USAGE)
    return body


def fail(text: str, code: int) -> NoReturn:
    """Say what is wrong and end."""
    click.echo(click.style("error: ", fg="red", bold=True) + text, err=True)
    sys.exit(code)
