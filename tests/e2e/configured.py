"""A worker as a file of settings makes it, in this process, and its gateway: what a user writes, and nothing else.

The file is YAML with `${VARIABLES}`, read as `eventbus worker --config FILE` reads it. The bus alone is given, in
memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from eventbus import Event
from registry.discovery import discover
from registry.settings import load
from service.gateway.app import build_app
from service.http import serving
from service.wiring import Runtime, open_runtime

BUS = "events: {url: 'memory://'}\n"


@asynccontextmanager
async def configured(folder: Path, text: str, **environ: str) -> AsyncIterator[Runtime]:
    """A worker of these settings, started; it works while `happen` waits for it."""
    path = folder / "eventbus.yaml"
    path.write_text(BUS + text, encoding="utf-8")
    async with open_runtime(load(path, discover().adapters, environ), serve=True) as runtime:
        await runtime.registry.start()
        yield runtime


@asynccontextmanager
async def gateway(runtime: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    """Its HTTP server, and a client of it."""
    async with (
        serving(build_app(runtime), "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
    ):
        yield http


async def happen(runtime: Runtime, *events: Event[Any]) -> None:
    """Publish them, and return when everything that follows from them is done."""
    for event in events:
        await runtime.bus.publish(event)
    await runtime.bus.run_until_idle()


async def given_up(runtime: Runtime) -> list[str]:
    """The groups that gave an event up; empty where all is well."""
    return [letter.group async for letter in runtime.bus.dead.find()]
