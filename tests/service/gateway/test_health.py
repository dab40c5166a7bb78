from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import service.gateway.health
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub
from integrations.prometheus import Prometheus
from integrations.slack.fake import FakeSlack
from registry.account import Account
from service.gateway.app import build_app
from service.wiring import Runtime

Open = Callable[..., AbstractAsyncContextManager[tuple[Runtime, httpx.AsyncClient]]]
NOWHERE = "redis://127.0.0.1:1/0"
HEALTH = "/api/v1/health"


@pytest.fixture
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.gateway.health, "CACHE_SECONDS", 0.0)


def elsewhere(runtime: Runtime) -> httpx.AsyncClient:
    """A client whose address is not of this machine; the socket can't be made to say so, the ASGI scope can."""
    transport = httpx.ASGITransport(app=build_app(runtime), client=("203.0.113.9", 4711))
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


# -- health ----------------------------------------------------------------------------------------------------------


async def test_health_names_every_component_and_its_state_and_nothing_else(http: httpx.AsyncClient) -> None:
    answer = await http.get(HEALTH)
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "status": "ok",
            "components": {"event_bus": "healthy", "slack": "healthy", "github": "healthy", "log": "healthy"},
        },
    )


@pytest.mark.usefixtures("asked_anew")
async def test_a_service_that_is_down_makes_the_system_degraded_until_it_is_back(
    http: httpx.AsyncClient, github: FakeGitHub
) -> None:
    github.go_down()
    answer = await http.get(HEALTH)
    assert answer.status_code == 200, "an orchestrator must not restart us for it"
    assert (answer.json()["status"], answer.json()["components"]["github"]) == ("degraded", "unhealthy")
    assert answer.json()["components"]["slack"] == "healthy"
    github.come_back()
    assert (await http.get(HEALTH)).json()["status"] == "ok"


@pytest.mark.usefixtures("asked_anew")
async def test_a_revoked_credential_is_unhealthy(http: httpx.AsyncClient, slack: FakeSlack) -> None:
    slack.reject_credentials = True
    assert (await http.get(HEALTH)).json()["components"]["slack"] == "unhealthy"


@pytest.mark.usefixtures("asked_anew")
async def test_a_used_up_rate_limit_is_degraded(http: httpx.AsyncClient, github: FakeGitHub) -> None:
    github.used = github.limit
    assert (await http.get(HEALTH)).json()["components"]["github"] == "degraded"


async def test_a_bus_that_is_down_is_503(open_gateway: Open) -> None:
    async with open_gateway(url=NOWHERE) as (_, http):
        answer = await http.get(HEALTH)
    assert (answer.status_code, answer.json()) == (
        503,
        {"status": "unhealthy", "components": {"event_bus": "unhealthy"}},
    )


async def test_details_are_for_holders_of_a_key(rest: httpx.AsyncClient, http: httpx.AsyncClient) -> None:
    details = (await rest.get(HEALTH)).json()["details"]
    assert set(details) == {"event_bus", "slack", "github", "log"}
    assert "signed in as acme-bot" in details["github"]["detail"]
    assert details["github"]["latency_ms"] > 0
    wrong = await http.get(HEALTH, headers={"X-API-Key": "not-a-key-of-ours-0"})
    assert "details" not in wrong.json()


async def test_asking_often_asks_the_services_once(http: httpx.AsyncClient, github: FakeGitHub) -> None:
    for _ in range(5):
        assert (await http.get(HEALTH)).status_code == 200
    assert len(github.requests) == 1


async def test_an_account_that_can_not_start_is_unhealthy_and_the_others_are_not(
    open_gateway: Open, github: FakeGitHub
) -> None:
    config = GitHub.manifest.config.model_validate(
        {"app_id": "1", "installation_id": 1, "private_key_file": "/nowhere/key.pem", "base_url": github.url}
    )
    async with open_gateway(Account("github", GitHub(), config)) as (_, http):
        components = (await http.get(HEALTH)).json()["components"]
    assert components == {"event_bus": "healthy", "github": "unhealthy"}


# -- livez, readyz ---------------------------------------------------------------------------------------------------


async def test_alive_and_ready(http: httpx.AsyncClient) -> None:
    alive, ready = await http.get("/livez"), await http.get("/readyz")
    assert (alive.status_code, alive.text) == (200, "ok\n")
    assert (ready.status_code, ready.json()) == (200, {"ready": True})


async def test_a_service_that_is_down_keeps_the_gateway_ready(http: httpx.AsyncClient, slack: FakeSlack) -> None:
    slack.go_down()
    assert (await http.get("/readyz")).status_code == 200


async def test_without_redis_it_is_alive_and_not_ready(open_gateway: Open) -> None:
    async with open_gateway(url=NOWHERE) as (_, http):
        assert (await http.get("/livez")).status_code == 200
        answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)


async def test_where_redis_is_is_not_told_to_strangers(open_gateway: Open) -> None:
    async with open_gateway(url=NOWHERE) as (runtime, http), elsewhere(runtime) as stranger:
        assert "127.0.0.1:1" in (await http.get("/readyz")).json()["event_bus"]
        assert (await stranger.get("/readyz")).json() == {"ready": False}


# -- metrics ---------------------------------------------------------------------------------------------------------


async def test_metrics_have_the_names_that_operators_know(
    http: httpx.AsyncClient, rest: httpx.AsyncClient, key: str
) -> None:
    await rest.post("/api/v1/events", json={"type": "vm.created", "data": {"vm_id": "1"}})
    await rest.post("/api/v1/integrations/log/notifications", json={"message": "hello"})
    answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {
        (sample.name, sample.labels.get("topic") or sample.labels.get("method")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["event_bus_messages_published_total", "vm.created"] == 1
    assert found["integration_requests_total", "send_notification"] == 1
    assert found["integration_request_seconds_count", "send_notification"] == 1
    assert key not in answer.text


async def test_metrics_are_for_this_machine_and_for_holders_of_a_key(runtime: Runtime, key: str) -> None:
    async with elsewhere(runtime) as stranger:
        refused = await stranger.get("/metrics")
        assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
        assert (await stranger.get("/metrics", headers={"X-API-Key": key})).status_code == 200


async def test_what_a_proxy_on_this_machine_forwards_is_not_of_this_machine(http: httpx.AsyncClient) -> None:
    for header in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"):
        assert (await http.get("/metrics", headers={header: "127.0.0.1"})).status_code == 401, header


async def test_without_any_key_metrics_are_for_this_machine_only(open_gateway: Open) -> None:
    gateway: dict[str, Any] = {"api_keys": ()}
    async with open_gateway(**gateway) as (runtime, http), elsewhere(runtime) as stranger:
        assert (await http.get("/metrics")).status_code == 200
        assert (await stranger.get("/metrics")).status_code == 403


async def test_what_an_integration_counted_is_for_this_machine_and_for_holders_of_a_key(
    open_gateway: Open, key: str
) -> None:
    account = Account("prometheus", Prometheus(), Prometheus.manifest.config())
    async with open_gateway(account) as (runtime, http), elsewhere(runtime) as stranger:
        assert "event_bus_measured_series 0.0" in (await http.get("/metrics/prometheus")).text
        assert (await stranger.get("/metrics/prometheus")).status_code == 401
        allowed = await stranger.get("/metrics/prometheus", headers={"X-API-Key": key})
        assert allowed.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    down = Account("prometheus", Prometheus(), Prometheus.manifest.config())
    async with open_gateway(down, url=NOWHERE) as (_, http):
        assert (await http.get("/metrics/prometheus")).status_code == 503
