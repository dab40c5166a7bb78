"""What tests of dying workers share: the process that forks the victims, and a server to die in front of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.victims import Victims
from tests.servers import NEWEST, Node, server


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    with Victims() as victims:
        yield victims


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A server for one module; tests that run side by side have a database each."""
    with server(NEWEST, tmp_path_factory.mktemp("redis")) as node:
        yield node
