"""A real Sentinel set-up and a real cluster: for one test, or for a file of tests that leave it whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import BINARIES, Cluster, Watched, cluster, sentinels


@pytest.fixture(params=sorted(BINARIES))
def watched(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watched]:
    """A master with a replica and three Sentinels, for one test."""
    with sentinels(BINARIES[request.param], tmp_path / "sentinel") as opened:
        yield opened


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that no test breaks."""
    with cluster(BINARIES[max(BINARIES)], tmp_path_factory.mktemp("cluster")) as opened:
        yield opened


@pytest.fixture(params=sorted(BINARIES))
def breakable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster for one test."""
    with cluster(BINARIES[request.param], tmp_path / "cluster") as opened:
        yield opened
