"""A real Sentinel set-up and a real cluster: for one test, or for a file of tests that leave it whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import BINARIES, NEWEST, Cluster, Watched, cluster, sentinels


@pytest.fixture(params=[*BINARIES.values()], ids=[*BINARIES])
def watched(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watched]:
    """A master with a replica and three Sentinels, for one test."""
    with sentinels(request.param, tmp_path / "sentinel") as opened:
        yield opened


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that no test breaks."""
    with cluster(NEWEST, tmp_path_factory.mktemp("cluster")) as opened:
        yield opened


@pytest.fixture(params=[*BINARIES.values()], ids=[*BINARIES])
def breakable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster for one test."""
    with cluster(request.param, tmp_path / "cluster") as opened:
        yield opened
