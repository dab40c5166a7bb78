"""The bench of the contract tests, which run in memory and on every server that this machine has."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from eventbus.redis.connection import Connection
from tests.contracts.bench import Bench
from tests.servers import BINARIES, Node, server


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Node]]:
    """A server by its name, started when it is first asked for and kept until the end of the run."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda name: stack.enter_context(server(BINARIES[name], tmp_path_factory.mktemp(name))))


@pytest.fixture(params=["memory", *BINARIES])
def url(request: pytest.FixtureRequest, namespace: str, started: Callable[[str], Node]) -> str:
    """Where the bus is: each backend in turn."""
    if request.param == "memory":
        return f"memory://{namespace}"
    return f"redis://127.0.0.1:{started(request.param).port}/0"


@pytest.fixture(params=BINARIES)
async def own_admin(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Connection]:
    """To a server for this test alone, of each kind in turn."""
    with server(BINARIES[request.param], tmp_path / "own") as own:
        connection = await Connection.open(f"redis://127.0.0.1:{own.port}/0")
        yield connection
        await connection.close()


@pytest.fixture
async def bench(url: str, namespace: str) -> AsyncIterator[Bench]:
    """A shard on it."""
    connection = await Connection.open(url)
    yield Bench(connection, namespace)
    await connection.close()
