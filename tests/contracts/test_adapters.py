"""Every adapter of ours keeps the contract that third-party adapters are held to.

The classes stand beside the adapters, where `pytest --integration NAME` finds them as well.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from integrations.alertmanager.contract import TestAlertmanager
from integrations.cloudwatch.contract import TestCloudWatch
from integrations.datadog.contract import TestDatadog, TestDogStatsD
from integrations.email.contract import TestEmail
from integrations.github.contract import TestGitHub, TestGitHubAsApp
from integrations.log.contract import TestLog
from integrations.pagerduty.contract import TestPagerDuty
from integrations.prometheus.contract import TestPrometheus
from integrations.slack.contract import TestSlack
from integrations.webhook.contract import TestPlainWebhook, TestWebhook

__all__ = [
    "TestAlertmanager",
    "TestCloudWatch",
    "TestDatadog",
    "TestDogStatsD",
    "TestEmail",
    "TestGitHub",
    "TestGitHubAsApp",
    "TestLog",
    "TestPagerDuty",
    "TestPlainWebhook",
    "TestPrometheus",
    "TestSlack",
    "TestWebhook",
]

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.mark.parametrize("name", PROJECT["entry-points"]["eventbus.integrations"])
def test_an_adapter_of_ours_is_held_to_the_contract_here(name: str) -> None:
    assert name in {globals()[contract].adapter.manifest.name for contract in __all__}
