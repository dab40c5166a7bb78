"""What tests of the bus share: an address on each backend, a bus, and waiting for a condition.

`redis_url` is one real redis-server for the whole run. Tests do not empty it: each has a namespace of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import settings

from eventbus import EventBus
from eventbus.redis.connection import Connection
from eventbus.redis.embedded import EmbeddedRedis, open_embedded
from tests.proxy import Proxy, open_proxy

FINISHING_TURNS = 20
LEASE = timedelta(seconds=2)
SWEEP_EVERY = timedelta(seconds=0.2)

settings.register_profile("here", deadline=None)  # a busy machine is not a failure
settings.load_profile("here")

_numbers = itertools.count(1)


async def wait_until(condition: Callable[[], object | Awaitable[object]], what: str, seconds: float = 10) -> None:
    """Return when the condition, a function or a coroutine function, holds. `what` is what a failure says."""
    deadline = time.monotonic() + seconds
    while True:
        reached = condition()
        if inspect.isawaitable(reached):
            reached = await reached
        if reached:
            return
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.005)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A real redis-server, kept up until the end of the run. A test that breaks it uses `own_redis`."""
    with open_embedded(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(redis_server: EmbeddedRedis) -> str:
    """Its address."""
    return f"embedded://{redis_server.home}"


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A redis-server for this test alone."""
    with open_embedded(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def own_admin(own_redis: EmbeddedRedis) -> AsyncIterator[Connection]:
    """For commands to it that the bus never sends."""
    connection = await Connection.open(f"embedded://{own_redis.home}")
    yield connection
    await connection.close()


@pytest.fixture
async def proxy(redis_server: EmbeddedRedis) -> AsyncIterator[Proxy]:
    """A way to `redis_url` that can fail."""
    async with open_proxy(redis_server.socket_path) as opened:
        yield opened


@pytest.fixture
def namespace() -> str:
    """The names of one test's keys begin with it."""
    return f"test-{next(_numbers)}"


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest, namespace: str) -> str:
    """Where the bus is: each test that asks for it runs on both backends."""
    if request.param == "memory":
        return f"memory://{namespace}"
    address: str = request.getfixturevalue("redis_url")
    return address


@pytest.fixture
async def bus(url: str, namespace: str) -> AsyncIterator[EventBus]:
    """An open bus with a short lease."""
    async with EventBus.open(url, namespace=namespace, lease=LEASE, sweep_every=SWEEP_EVERY) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _no_task_is_left(request: pytest.FixtureRequest) -> None:
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("_task_check")


@pytest.fixture
async def _task_check() -> AsyncIterator[None]:
    """A task that outlives its test is a leak of whoever started it."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before
    for _ in range(FINISHING_TURNS):  # the loop closes dropped asynchronous generators in tasks of its own
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not left:
            return
        await asyncio.sleep(0)
    assert not left, f"tasks left behind: {sorted(task.get_name() for task in left)}"
