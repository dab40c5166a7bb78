"""An installation of ours with its pytest plugin, for a pytest of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


def install(site: Path, name: str, entry_points: str) -> None:
    """What an installer leaves of a distribution, its modules aside."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PYTHONPATH. Where the plugin is installed already, it is the same one."""
    site = tmp_path_factory.mktemp("site")
    install(site, "the_plugin", "[pytest11]\neventbus = integrations.testing.plugin\n")
    return site
