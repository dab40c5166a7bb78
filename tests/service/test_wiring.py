"""From a settings file to running objects."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from integrations.base import Delivery, Notification
from service.wiring import open_runtime, read_settings


@pytest.mark.parametrize(
    ("given", "costs"),
    [
        ({}, [("effects per minute", 1500)]),
        ({"max_effects_per_minute": 8, "paced": False}, [("effects per minute", 2)]),
        ({"max_effects_per_minute": 0}, []),
    ],
    ids=["default", "given", "off"],
)
async def test_the_cap_of_the_settings_counts_for_each_call(
    tmp_path: Path, given: dict[str, object], costs: list[tuple[str, int]]
) -> None:
    path = tmp_path / "eventbus.yaml"
    path.write_text(yaml.safe_dump({"events": {"url": "memory://"}, "integrations": {"log": given}}))
    async with open_runtime(read_settings(path), serve=False) as runtime:
        act = runtime.registry.get("log").act(Notification(message="hello"), Delivery("k"))
        assert [(cost.name, cost.burst) for cost in act.costs()] == costs
