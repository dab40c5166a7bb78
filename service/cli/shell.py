"""What every command does the same way: find the settings, run asynchronous work, and turn errors into exit codes.

0  done
1  failed or refused: the event, the notification, a component that is not healthy
2  usage or configuration: nothing was done
3  Redis can't be reached
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from pydantic import SecretStr

from eventbus import EventBusError, Full, Misconfigured, Unavailable
from integrations.errors import IntegrationError
from integrations.errors import Misconfigured as AdapterMisconfigured
from registry.dispatch import Busy, KeyReused, describe
from registry.registry import UnknownIntegration
from registry.settings import ConfigError, Settings
from service import logs
from service.wiring import read_settings

FAILED = 1
USAGE = 2
UNREACHABLE = 3

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
        if url is not None:
            events = type(settings.events)(url=SecretStr(url))
            settings = settings.model_copy(update={"events": events})
    except ConfigError as error:
        fail(str(error), USAGE)
    except (Misconfigured, ValueError) as error:
        fail(str(error) if isinstance(error, Misconfigured) else f"{url!r} is not an address of the bus", USAGE)
    logs.configure(log_level or settings.log.level, settings.log.format)
    return settings


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it; errors become one line on standard error and an exit code."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left unflushed has no reader
        sys.exit(0)
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


def fail(text: str, code: int) -> NoReturn:
    """Say what is wrong and end."""
    click.echo(click.style("error: ", fg="red", bold=True) + text, err=True)
    sys.exit(code)
