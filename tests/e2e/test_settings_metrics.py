"""Settings as a user writes them for Datadog and CloudWatch, up to what stands in the services afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventbus import catalog
from eventbus.topics import MigrationCompleted, MigrationFailed, VmFailed
from integrations.cloudwatch.fake import FakeCloudWatch
from integrations.datadog.fake import FakeDatadog
from integrations.datadog.fake_agent import FakeAgent
from tests.e2e.configured import configured, given_up, happen

AGENT = """
integrations:
  datadog:
    agent: ${AGENT}
    tags: ["team:database"]
routes:
  machines:
    topics: [vm.failed]
    to: datadog
    title: "{{ data.vm_name }} is gone"
    text: "{{ data.error }}"
    severity: critical
"""

ORDERS = """
integrations:
  datadog:
    transport: api
    base_url: ${URL}
    api_key: ${KEY}
    defaults: false
    measures:
      - {name: shop.orders, type: counter, topics: [shop.order.placed], labels: {country: data.address.country}}
"""

CLOUDWATCH = """
integrations:
  cloudwatch:
    region: eu-central-1
    endpoint: ${URL}
    access_key_id: ${ID}
    secret_access_key: ${SECRET}
    when_unknown: %s
    measures:
      - {name: Orders, type: counter, topics: [shop.order.*], labels: {State: topic.3}, unit: Count}
"""

COMPLETED = MigrationCompleted(migration="add_email", environment="production", duration_ms=2310)


async def test_migrations_thresholds_and_a_route_reach_the_agent_as_documented(tmp_path: Path) -> None:
    threshold = {"type": "duration", "level": "error", "metrics": {"name": "parse", "duration": 9000}}
    async with FakeAgent() as agent, configured(tmp_path, AGENT, AGENT=agent.settings()["agent"]) as runtime:
        await happen(runtime, catalog.event(COMPLETED))
        exceeded = catalog.event("performance.threshold.exceeded", threshold)
        await happen(runtime, exceeded, catalog.event(VmFailed(vm_id="vm-1", vm_name="db", error="no host")))
        completed, duration, *events = agent.effects()
        assert await given_up(runtime) == []
    assert completed == "confiture.migrations.completed:1|c|#env:production,migration:add_email,team:database"
    assert duration == "confiture.migrations.duration:2310|h|#env:production,team:database"
    at, tags = int(exceeded.time.timestamp()), "type:duration,operation:parse,topic:performance.threshold.exceeded"
    first, second = sorted(events, key=len, reverse=True)
    title = "Performance threshold exceeded: parse"
    assert first.startswith(f"_e{{37,37}}:{title}|{title}|d:{at}|k:")
    assert first.endswith(f"|s:eventbus|t:error|#{tags},team:database")
    assert second == "_e{10,7}:db is gone|no host|k:vm_id:vm-1|s:eventbus|t:error|#severity:critical,team:database"


async def test_a_metric_of_the_users_own_is_counted_by_the_api(tmp_path: Path) -> None:
    async with FakeDatadog() as datadog:
        environ = {"URL": datadog.url, "KEY": datadog.api_key}
        async with configured(tmp_path, ORDERS, **environ) as runtime:
            order = catalog.event("shop.order.placed", {"address": {"country": "AT"}})
            await happen(runtime, order, catalog.event(COMPLETED))
    assert datadog.effects() == [f"shop.orders{{country:AT}} 1 at {int(order.time.timestamp())}"]


async def test_migrations_are_put_into_cloudwatch_as_documented_and_what_else_is_measured(tmp_path: Path) -> None:
    async with FakeCloudWatch() as cloudwatch:
        environ = {"URL": cloudwatch.url, "ID": cloudwatch.access_key_id, "SECRET": cloudwatch.secret_access_key}
        async with configured(tmp_path, CLOUDWATCH % "park", **environ) as runtime:
            broken = MigrationFailed(migration="add_email", environment="staging", error="lock timeout")
            ordered = catalog.event("shop.order.placed", {})
            await happen(runtime, catalog.event(COMPLETED), catalog.event(broken), ordered)
            assert await given_up(runtime) == []
    assert sorted(one.rpartition(" at ")[0] for one in cloudwatch.effects()) == [
        "Confiture MigrationDuration{Environment=production,Migration=add_email} 2310 Milliseconds",
        "Confiture MigrationsFailed{Environment=staging} 1 Count",
        "Confiture Orders{State=placed} 1 Count",
    ]


@pytest.mark.parametrize(("when_unknown", "put", "parked"), [("park", 1, ["cloudwatch"]), ("resend", 2, [])])
async def test_a_value_whose_answer_was_lost_counts_once_unless_the_settings_want_it_otherwise(
    when_unknown: str, put: int, parked: list[str], tmp_path: Path
) -> None:
    async with FakeCloudWatch() as cloudwatch:
        environ = {"URL": cloudwatch.url, "ID": cloudwatch.access_key_id, "SECRET": cloudwatch.secret_access_key}
        async with configured(tmp_path, CLOUDWATCH % when_unknown, **environ) as runtime:
            cloudwatch.swallow("after")
            await happen(runtime, catalog.event(COMPLETED))
            assert await given_up(runtime) == parked
    assert len(cloudwatch.data) == put
