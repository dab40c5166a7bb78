from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import httpx
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from integrations.github import GitHub
from integrations.github.fake import FakeGitHub
from integrations.log.adapter import Log
from integrations.log.config import LogConfig
from integrations.prometheus.adapter import Prometheus
from integrations.prometheus.config import PrometheusConfig
from integrations.slack.fake import FakeSlack
from registry.account import Account
from registry.settings import IntegrationSettings
from service.gateway.app import build_app
from service.gateway.operations import OPERATIONS
from service.wiring import Runtime

Open = Callable[..., AbstractAsyncContextManager[tuple[Runtime, httpx.AsyncClient]]]
INTEGRATIONS = "/api/v1/integrations"
NO_FACTS = {"settings", "config"}


async def test_the_first_page_names_everything_and_where_it_is_described(http: httpx.AsyncClient) -> None:
    page = (await http.get("/")).json()
    assert page["openapi"] == "/api/v1/openapi.json"
    assert page["operations"]["publish_event"] == "POST /api/v1/events"
    assert len(page["operations"]) == len(OPERATIONS)


async def test_every_configured_integration_is_listed_with_what_its_manifest_says(rest: httpx.AsyncClient) -> None:
    listed = (await rest.get(INTEGRATIONS)).json()["integrations"]
    assert [one["name"] for one in listed] == ["github", "log", "slack"]
    github, log, slack = listed
    manifest = GitHub.manifest
    assert (github["adapter"], github["title"], github["enabled"]) == ("github", manifest.title, True)
    assert (github["takes"], github["publishes"]) == (list(manifest.handles), list(manifest.emits))
    assert github["effects"]["class"] == manifest.effects
    assert (github["tier"], log["tier"]) == ("complete", "safe")
    assert {"name": "issues:write", "why": "comments on issues and opens them", "needed": True} in github["scopes"]
    assert (slack["webhooks"], log["webhooks"]) == ("/api/v1/webhooks/slack", None)
    assert slack["budgets"] == [{"name": "messages", "count": 50, "per": 60.0, "burst": 1, "each": "place"}]
    for one in listed:
        assert (await rest.get(f"{INTEGRATIONS}/{one['name']}")).json() == one
        assert NO_FACTS.isdisjoint(one)


async def test_the_schema_of_an_artifact_tells_what_is_taken(rest: httpx.AsyncClient) -> None:
    schema = (await rest.get(f"{INTEGRATIONS}/github")).json()["artifacts"]["issue"]["schema"]
    validator = Draft202012Validator(schema)
    issue = {"owner": "acme", "repo": "api", "title": "It broke"}
    for content in (issue, {**issue, "colour": "red"}, {**issue, "title": ""}, {**issue, "owner": "../x"}):
        answer = await rest.post(f"{INTEGRATIONS}/github/artifacts/issue", json=content)
        assert validator.is_valid(content) == (answer.status_code == 201), content


async def test_one_that_is_switched_off_is_listed_as_such(runtime: Runtime, slack: FakeSlack, key: str) -> None:
    """Its settings may be incomplete; of its adapter all is told all the same."""
    off = IntegrationSettings(adapter="pagerduty", enabled=False, topics=("vm.*",))
    settings = runtime.settings.model_copy(update={"integrations": {"pager": off}})
    transport = httpx.ASGITransport(build_app(replace(runtime, settings=settings)))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers={"X-API-Key": key}) as client:
        found = {one["name"]: one for one in (await client.get(INTEGRATIONS)).json()["integrations"]}
        document = (await client.get("/api/v1/openapi.json")).json()
    assert {name: one["enabled"] for name, one in found.items()} == {
        "github": True,
        "log": True,
        "pager": False,
        "slack": True,
    }
    assert (found["pager"]["adapter"], found["pager"]["title"]) == ("pagerduty", "PagerDuty")
    assert found["pager"]["takes"] == ["vm.*"]
    assert found["pager"]["webhooks"] == "/api/v1/webhooks/pager"
    assert "pager" not in json.dumps(document["paths"])


async def test_each_says_the_topics_that_its_settings_leave_or_add(open_gateway: Open, key: str) -> None:
    counts = PrometheusConfig.model_validate(
        {"defaults": False, "measures": [{"name": "paid_total", "type": "counter", "topics": ["shop.order.paid"]}]}
    )
    errors = Account("errors", Log(), LogConfig(), topics=("*.failed",))
    async with open_gateway(Account("counts", Prometheus(), counts), errors) as (_, http):
        listed = (await http.get(INTEGRATIONS, headers={"X-API-Key": key})).json()["integrations"]
    assert {one["name"]: one["takes"] for one in listed} == {"counts": ["shop.order.paid"], "errors": ["*.failed"]}


async def test_an_unknown_one_is_404_and_the_known_are_named(rest: httpx.AsyncClient) -> None:
    answer = await rest.get(f"{INTEGRATIONS}/nobody")
    assert answer.status_code == 404
    assert "github, log, slack" in answer.json()["detail"]


async def test_no_secret_and_no_address_is_told(
    rest: httpx.AsyncClient, runtime: Runtime, slack: FakeSlack, github: FakeGitHub, key: str
) -> None:
    told = (await rest.get(INTEGRATIONS)).text + (await rest.get("/api/v1/openapi.json")).text
    values = [value for account in runtime.registry for value in account.config.model_dump().values()]
    secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    assert len(secrets) >= 4
    for secret in [*filter(None, secrets), slack.url, github.url, key]:
        assert secret not in told
