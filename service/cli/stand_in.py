"""`eventbus integrations stand-in NAME`: the service that an adapter is for, as its `fake.py` plays it, to try it on.

An adapter without one, or with one that has no settings, is refused by name. Nothing here talks to the real service.
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import click
import yaml

from registry.discovery import discover
from service.cli import output
from service.cli.shell import FAILED, NOTHING, fail, run

if TYPE_CHECKING:
    from integrations.testing.fake import FakeService  # a web server: not for every command to load

POLL_SECONDS = 0.1


@click.command("stand-in", epilog="\b\nExample:\n  eventbus integrations stand-in slack > slack.yaml")
@click.argument("name")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Where it listens; default: any free port.")
def stand_in(name: str, port: int) -> None:
    """Run the stand-in of the adapter NAME on this machine, until Ctrl-C.

    Prints settings that lead to it, as a settings file; then, on standard error, what is made there.
    """
    fake = _fake_of(name)

    async def serve() -> None:
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        async with fake(port=port) as service:
            shown = {"integrations": {name: service.settings()}, "worker": {"port": 0}}  # beside other workers
            click.echo(yaml.safe_dump(shown, sort_keys=False), nl=False)
            sys.stdout.flush()
            click.echo(f"the stand-in of {name} listens on {service.url}", err=True)
            await _tell(service, ended)

    run(serve())


async def _tell(service: FakeService, ended: asyncio.Event) -> None:
    """Say each effect as it comes to be."""
    told = 0
    while not ended.is_set():
        effects = service.effects()
        for effect in effects[told:]:
            click.echo(output.printable(effect), err=True)
        told = len(effects)
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await ended.wait()
        except TimeoutError:
            continue


def _fake_of(name: str) -> type[FakeService]:
    """The stand-in in the module `fake` beside the adapter. Ends the program where there is none."""
    entry = discover().adapters.get(name)
    if entry is None or entry.integration is None:
        fail(f"no adapter {name!r} can be used: see eventbus integrations list", NOTHING)
    package = entry.integration.__module__.rpartition(".")[0]
    try:
        module = importlib.import_module(f"{package}.fake")
    except ModuleNotFoundError as error:
        fail(f"{name} has no stand-in: {error}", FAILED)
    return _only(module)


def _only(module: ModuleType) -> type[FakeService]:
    from integrations.testing.fake import FakeService

    own = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    fakes = [one for one in own if issubclass(one, FakeService)]
    if len(fakes) != 1:
        fail(f"{module.__name__} has {len(fakes)} stand-ins; one is needed", FAILED)
    return fakes[0]
