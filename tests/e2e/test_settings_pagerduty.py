"""What a file of settings makes of events at PagerDuty: who is paged, how loudly, with which key, links and facts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from eventbus import Event, catalog
from integrations.pagerduty.fake import Alert, FakePagerDuty
from integrations.slack.fake import FakeSlack
from tests.e2e.configured import configured, given_up, happen

NAME = "005_add_payment_table"

ACCOUNT = """
integrations:
  pagerduty:
    routing_key: ${PAGERDUTY_ROUTING_KEY}
    base_url: ${PAGERDUTY_URL}
"""

REST = (
    ACCOUNT
    + """
    api_token: ${PAGERDUTY_API_TOKEN}
    from_email: ada@example.com
    topics: ["delivery.none"] # no event goes there but by a route
"""
)


@pytest.fixture
async def pagerduty() -> AsyncIterator[FakePagerDuty]:
    async with FakePagerDuty() as fake:
        yield fake


@pytest.fixture
def environ(pagerduty: FakePagerDuty) -> dict[str, str]:
    return {
        "PAGERDUTY_ROUTING_KEY": pagerduty.routing_key,
        "PAGERDUTY_API_TOKEN": pagerduty.api_token,
        "PAGERDUTY_URL": pagerduty.url,
    }


def failed(environment: str = "production", migration: str = NAME, **more: Any) -> Event[Any]:
    data = {"migration": migration, "environment": environment, "error": "lock timeout", **more}
    return catalog.event("migration.failed", data)


def completed(environment: str = "production") -> Event[Any]:
    return catalog.event("migration.completed", {"migration": NAME, "environment": environment})


def sent(alert: Alert) -> dict[str, Any]:
    """The request that opened an alert."""
    return alert.log[0]


async def test_a_failure_in_production_pages_and_the_next_success_resolves_it(
    pagerduty: FakePagerDuty, environ: dict[str, str], tmp_path: Path
) -> None:
    """One key for a migration, whatever the environment: only production is brought at all."""
    async with configured(tmp_path, ACCOUNT + '    dedup_key: "confiture-{migration}"\n', **environ) as runtime:
        await happen(runtime, completed(), failed("staging"))
        assert pagerduty.alerts == []
        await happen(runtime, failed(error="e" * 1500))
        (alert,) = pagerduty.alerts
        assert (alert.dedup_key, alert.status) == (f"confiture-{NAME}", "triggered")
        payload = sent(alert)["payload"]
        assert payload["severity"] == "critical"
        details = payload["custom_details"]
        assert (details["migration"], details["environment"]) == (NAME, "production")
        assert details["error"].startswith("e" * 900)
        assert len(details["error"]) <= 1000
        await happen(runtime, completed("staging"))
        assert pagerduty.open_alerts() == [f"confiture-{NAME}"]
        await happen(runtime, completed())
        assert pagerduty.open_alerts() == []
        assert await given_up(runtime) == []


async def test_each_environment_has_an_alert_of_its_own_as_loud_as_it_is_important(
    pagerduty: FakePagerDuty, environ: dict[str, str], tmp_path: Path
) -> None:
    more = """
    environments: ["*"]
    dedup_key: "confiture-{migration}-{environment}"
"""
    async with configured(tmp_path, ACCOUNT + more, **environ) as runtime:
        await happen(runtime, failed("production"), failed("staging"), failed("development"))
        assert {alert.dedup_key: sent(alert)["payload"]["severity"] for alert in pagerduty.alerts} == {
            f"confiture-{NAME}-production": "critical",
            f"confiture-{NAME}-staging": "error",
            f"confiture-{NAME}-development": "warning",
        }
        await happen(runtime, completed("staging"))
        assert pagerduty.open_alerts() == [f"confiture-{NAME}-production", f"confiture-{NAME}-development"]


async def test_a_severity_table_of_a_route_may_use_the_words_high_medium_and_low(
    pagerduty: FakePagerDuty, environ: dict[str, str], tmp_path: Path
) -> None:
    route = """
routes:
  failures:
    topics: [migration.failed]
    to: pagerduty
    text: "{{ data.error }}"
    severity:
      by: data.environment
      map: {production: critical, staging: high, test: medium}
      default: low
"""
    async with configured(tmp_path, ACCOUNT + route, **environ) as runtime:
        places = ("production", "staging", "test", "laptop")
        await happen(runtime, *(failed(place, migration=place) for place in places))
    severities = {alert.dedup_key: sent(alert)["payload"]["severity"] for alert in pagerduty.alerts}
    assert severities == {"migration:production": "critical", "migration:staging": "error", "migration:test": "warning"}
    assert len(pagerduty.changes) == 1  # what is mere information pages nobody


async def test_an_alert_says_what_failed_with_its_facts_and_without_credentials(
    pagerduty: FakePagerDuty, environ: dict[str, str], tmp_path: Path
) -> None:
    more = """
    client: Migrations
    client_url: https://migrations.example.com
    source: orders database
"""
    event = failed(
        error="could not connect to postgresql://ada:canary-word@db.example.com/orders",
        error_type="DatabaseError",
        version="005",
        database_url="postgresql://ada:canary-word@db.example.com:5432/orders",
        started_at="2026-01-12T10:30:00Z",
        ended_at="2026-01-12T10:31:00Z",
        tables=["payments", "orders"],
    )
    async with configured(tmp_path, ACCOUNT + more, **environ) as runtime:
        await happen(runtime, event)
    (alert,) = pagerduty.alerts
    body = sent(alert)
    assert body["event_action"] == "trigger"
    assert (body["client"], body["client_url"]) == ("Migrations", "https://migrations.example.com")
    payload = body["payload"]
    assert payload["summary"].startswith(f"[PRODUCTION] Migration {NAME} failed: could not connect to ")
    assert (payload["source"], payload["timestamp"]) == ("orders database", event.time.isoformat())
    details = payload["custom_details"]
    assert details["database_url"] == "db.example.com:5432"
    assert {name: details[name] for name in ("version", "error_type", "started_at", "ended_at", "tables")} == {
        "version": "005",
        "error_type": "DatabaseError",
        "started_at": "2026-01-12T10:30:00Z",
        "ended_at": "2026-01-12T10:31:00Z",
        "tables": ["payments", "orders"],
    }
    assert "canary-word" not in str(pagerduty.requests)


@pytest.mark.parametrize(
    ("environment", "error_type", "pages"),
    [
        ("production", "DatabaseError", ["database-connection-issues", "dashboard"]),
        ("production", "TimeoutError", ["slow-migrations", "dashboard"]),
        ("production", "ConstraintError", ["constraint-violations", "dashboard"]),
        ("production", "KeyError", ["migration-failures", "dashboard"]),
        ("staging", "TimeoutError", ["migration-failures"]),
    ],
)
async def test_an_alert_links_the_runbook_of_its_error_and_in_production_the_dashboard(
    pagerduty: FakePagerDuty,
    environ: dict[str, str],
    tmp_path: Path,
    environment: str,
    error_type: str,
    pages: list[str],
) -> None:
    more = """
    environments: [production, staging]
    runbooks:
      production:
        DatabaseError: https://wiki.example.com/database-connection-issues
        TimeoutError: https://wiki.example.com/slow-migrations
        ConstraintError: https://wiki.example.com/constraint-violations
        default: https://wiki.example.com/migration-failures
      staging:
        default: https://wiki.example.com/migration-failures
    links:
      - href: https://wiki.example.com/dashboard
        text: Migration Dashboard
        environments: [production]
"""
    async with configured(tmp_path, ACCOUNT + more, **environ) as runtime:
        await happen(runtime, failed(environment, error_type=error_type))
    (alert,) = pagerduty.alerts
    assert [link["href"] for link in sent(alert)["links"]] == [f"https://wiki.example.com/{page}" for page in pages]


async def test_two_teams_are_paged_for_their_own_topics_only(
    pagerduty: FakePagerDuty, environ: dict[str, str], tmp_path: Path
) -> None:
    accounts = """
integrations:
  pager-database:
    adapter: pagerduty
    routing_key: ${PAGERDUTY_ROUTING_KEY}
    base_url: ${PAGERDUTY_URL}
    topics: ["migration.*"]
  pager-platform:
    adapter: pagerduty
    integration_key: ${PAGERDUTY_PLATFORM_KEY}
    base_url: ${PAGERDUTY_URL}
    topics: ["vm.*"]
"""
    environ["PAGERDUTY_PLATFORM_KEY"] = pagerduty.other_routing_key
    async with configured(tmp_path, accounts, **environ) as runtime:
        machine = {"vm_id": "vm-1", "vm_name": "my-vm", "error": "no host has room", "environment": "production"}
        await happen(runtime, failed(), catalog.event("vm.failed", machine))
    assert {alert.routing_key: alert.dedup_key.partition("-")[0] for alert in pagerduty.alerts} == {
        pagerduty.routing_key: "migration",
        pagerduty.other_routing_key: "vm",
    }
    assert len(pagerduty.alerts) == 2


async def test_one_table_of_runbooks_serves_every_integration(
    pagerduty: FakePagerDuty, environ: dict[str, str], tmp_path: Path
) -> None:
    more = """
  slack:
    bot_token: ${SLACK_BOT_TOKEN}
    base_url: ${SLACK_URL}/api
runbooks:
  production:
    TimeoutError: https://wiki.example.com/slow-migrations
    default: https://wiki.example.com/migration-failures
routes:
  page:
    topics: [migration.failed]
    to: pagerduty
    severity: critical
    text: "{{ data.error }}"
    url: "{{ runbook }}"
  tell:
    topics: [migration.failed]
    to: slack
    text: "{{ data.error }}"
    url: "{{ runbook }}"
"""
    async with FakeSlack() as slack:
        environ |= {"SLACK_BOT_TOKEN": slack.token, "SLACK_URL": slack.url}
        async with configured(tmp_path, ACCOUNT + more, **environ) as runtime:
            await happen(runtime, failed(error_type="TimeoutError"))
        (alert,) = pagerduty.alerts
        assert [link["href"] for link in sent(alert)["links"]] == ["https://wiki.example.com/slow-migrations"]
        assert "<https://wiki.example.com/slow-migrations>" in str(slack.messages[0].blocks)


@pytest.mark.parametrize(("environment", "urgency"), [("production", "high"), ("staging", "low")])
async def test_a_route_makes_an_incident_on_a_service_it_names_and_assigns_who_is_on_call(
    pagerduty: FakePagerDuty, environ: dict[str, str], tmp_path: Path, environment: str, urgency: str
) -> None:
    route = """
routes:
  incidents:
    topics: [migration.failed]
    to: pagerduty
    artifact: incident
    content:
      title: "Migration {{ data.migration }} failed"
      service: Database Migrations
      environment: "{{ data.environment }}"
      details: |
        Environment: {{ data.environment }}
        Error: {{ data.error }}
      assign_on_call: true
"""
    async with configured(tmp_path, REST + route, **environ) as runtime:
        await happen(runtime, failed(environment))
        assert await given_up(runtime) == []
    (incident,) = pagerduty.incidents
    assert (incident.title, incident.urgency, incident.service_id) == (f"Migration {NAME} failed", urgency, "PF9KMXH")
    assert (incident.assignees, incident.made_by) == (("PXPGF42",), "ada@example.com")
    assert f"Environment: {environment}\nError: lock timeout" in incident.details
    assert pagerduty.alerts == []


async def test_a_threshold_that_was_exceeded_makes_an_incident_at_the_level_error_only(
    pagerduty: FakePagerDuty, environ: dict[str, str], tmp_path: Path
) -> None:
    route = """
    service_id: ${PAGERDUTY_SERVICE_ID}
routes:
  slow:
    topics: [performance.threshold.exceeded]
    when: data.level == "error"
    to: pagerduty
    artifact: incident
    dedup_key: "{{ data.type }}-{{ data.metrics.name }}"
    content:
      title: "Performance threshold exceeded: {{ data.metrics.name }}"
      urgency: high
      details: "{{ data | json }}"
"""
    environ["PAGERDUTY_SERVICE_ID"] = "PIJ90N7"
    async with configured(tmp_path, REST + route, **environ) as runtime:
        for level, name in (("warning", "render"), ("error", "parse"), ("error", "parse")):
            data = {"type": "duration", "level": level, "metrics": {"name": name, "duration": 9000}}
            await happen(runtime, catalog.event("performance.threshold.exceeded", data))
        assert await given_up(runtime) == []
    (incident,) = pagerduty.incidents  # the second error finds the open one
    assert (incident.title, incident.urgency) == ("Performance threshold exceeded: parse", "high")
    assert incident.service_id == "PIJ90N7"
    assert '"duration": 9000' in incident.details


async def test_a_pagerduty_that_is_down_holds_nobody_up_and_is_told_later(
    pagerduty: FakePagerDuty, environ: dict[str, str], tmp_path: Path
) -> None:
    """Whoever publishes waits for the bus only; the alert is not lost."""
    quick = "\nworker: {retry_base_seconds: 0.05, retry_max_seconds: 0.05}\n"
    async with configured(tmp_path, ACCOUNT + quick, **environ) as runtime:
        pagerduty.fail(503, times=2)
        receipt = await runtime.bus.publish(failed())
        assert (receipt.status, pagerduty.requests) == ("stored", [])
        await runtime.bus.run_until_idle()
        assert [request.status for request in pagerduty.requests] == [503, 503, 202]
        assert len(pagerduty.open_alerts()) == 1
