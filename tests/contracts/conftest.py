"""The bench of the contract tests, on both backends."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from eventbus.redis.connection import Connection
from tests.contracts.bench import Bench


@pytest.fixture
async def bench(url: str, namespace: str) -> AsyncIterator[Bench]:
    connection = await Connection.open(url)
    yield Bench(connection, namespace)
    await connection.close()
