"""The OpenAPI document says what the gateway does: each route, each status, each body."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict

import service.gateway.body
from eventbus import Event, catalog
from integrations import errors
from integrations.base import (
    Artifact,
    Delivery,
    DeliveryResult,
    Health,
    InboundReply,
    InboundRequest,
    Integration,
    Manifest,
    Notification,
)
from integrations.github.fake import FakeGitHub
from integrations.pagerduty import PagerDuty
from integrations.pagerduty.fake import FakePagerDuty
from registry.account import Account
from service.gateway import about
from service.gateway.app import build_app
from service.gateway.operations import OPERATIONS, Operation
from service.wiring import Runtime
from tests.service.gateway.conformance import Conformance

Open = Callable[..., AbstractAsyncContextManager[tuple[Runtime, httpx.AsyncClient]]]
COMMITTED = json.loads((Path(__file__).parents[3] / "docs/openapi.json").read_text())
NOWHERE = "redis://127.0.0.1:1/0"


class Nothing(BaseModel):
    """No settings."""


class Thing(BaseModel):
    """The content of an artifact."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"title": "Move to v2"}]})

    title: str


class Everything(Integration[Nothing]):
    """Does whatever a route can ask for, or fails as the test says."""

    manifest = Manifest(
        name="everything",
        title="Everything",
        config=Nothing,
        emits=("partner.>",),
        notifications=("message",),
        artifacts={"pull_request": Thing},
        effects="keyed",
    )
    failure: Exception | None = None
    go: asyncio.Event | None = None

    def __init__(self) -> None:
        self.busy = asyncio.Event()

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        return DeliveryResult.skipped("not of interest")

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        return await self._do()

    async def create_artifact(self, artifact: Artifact, delivery: Delivery) -> DeliveryResult:
        return await self._do()

    async def receive(self, request: InboundRequest) -> InboundReply:
        await self._do()
        event = catalog.event("partner.called", {"body": request.body.decode()}, idempotency_key="partner:1")
        return InboundReply(events=(event,), status=202)

    async def exposition(self) -> bytes:
        await self._do()
        return b""

    async def health(self) -> Health:
        return Health("healthy")

    async def _do(self) -> DeliveryResult:
        if self.go is not None:
            self.busy.set()
            await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return DeliveryResult.delivered("1")


# -- routes ----------------------------------------------------------------------------------------------------------


def documented(paths: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, item in paths.items() for method in item}


def fits(operation: Operation, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{\w+\}", r"[^/]+", operation.path), path) is not None


async def test_every_route_is_documented_and_no_other(runtime: Runtime) -> None:
    routes = {
        (method, getattr(route, "path", ""))
        for route in build_app(runtime).routes
        for method in getattr(route, "methods", ())
        if method != "HEAD"
    }
    assert routes == {(one.method, one.path) for one in OPERATIONS}
    in_document = documented(COMMITTED["paths"])
    for method, path in in_document:
        assert any(one.method == method and fits(one, path) for one in OPERATIONS), path
    for one in OPERATIONS:
        assert any(one.method == method and fits(one, path) for method, path in in_document), one.path


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for item in COMMITTED["paths"].values() for operation in item.values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)


async def test_a_gateway_serves_the_document_of_its_own_integrations(
    open_gateway: Open, rest: httpx.AsyncClient, key: str
) -> None:
    served = (await rest.get("/api/v1/openapi.json")).json()
    assert served["paths"]["/api/v1/webhooks/{integration}"]["post"]["parameters"][0]["schema"]["enum"] == [
        "github",
        "slack",
    ]
    assert "/api/v1/integrations/pagerduty/artifacts/incident" not in served["paths"]

    async with FakePagerDuty() as fake:
        account = Account("oncall-eu", PagerDuty(), PagerDuty.manifest.config.model_validate(fake.settings()))
        async with open_gateway(account) as (_, http):
            answer = await http.get("/api/v1/openapi.json", headers={"X-API-Key": key})
    paths = answer.json()["paths"]
    incident = paths["/api/v1/integrations/oncall-eu/artifacts/incident"]["post"]
    assert incident["operationId"] == "create_oncall_eu_incident"
    assert "/api/v1/integrations/github/pr" not in paths
    for secret in (fake.routing_key, fake.api_token, fake.webhook_secret, fake.url, key):
        assert secret not in answer.text


async def test_accounts_whose_names_are_written_alike_have_operations_of_their_own(
    open_gateway: Open, key: str
) -> None:
    async with FakePagerDuty() as fake:
        config = PagerDuty.manifest.config.model_validate(fake.settings())
        accounts = [Account(name, PagerDuty(), config) for name in ("oncall-eu", "oncall_eu", "oncall_eu_")]
        async with open_gateway(*accounts) as (_, http):
            paths = (await http.get("/api/v1/openapi.json", headers={"X-API-Key": key})).json()["paths"]
    names = [operation["operationId"] for item in paths.values() for operation in item.values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)
    assert paths["/api/v1/integrations/oncall-eu/artifacts/incident"]["post"]["operationId"] in names


async def test_the_document_is_made_once(rest: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    first = (await rest.get("/api/v1/openapi.json")).content
    monkeypatch.delattr(about, "document")
    assert (await rest.get("/api/v1/openapi.json")).content == first


# -- schemas ---------------------------------------------------------------------------------------------------------


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


def test_every_part_is_there_and_a_schema() -> None:
    for reference in references(COMMITTED):
        node = COMMITTED
        for name in reference.removeprefix("#/").split("/"):
            node = node[name]
    for schema in COMMITTED["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def valid(schema: Mapping[str, Any], value: Any) -> bool:
    return Draft202012Validator({"components": COMMITTED["components"], **schema}).is_valid(value)


PART = "#/components/schemas/"
NOT_EVENTS: list[dict[str, Any]] = [
    {"type": "vm.created", "topic": "vm.created", "data": {"vm_id": "1"}},
    {"type": "Not A Topic"},
    {"type": "team.x", "colour": "red"},
    {"type": "team.x", "traceparent": "x"},
    {"type": "team.x", "source": ""},
    {"data": {}},
    {"type": "team.x", "data": 7},
]


async def test_what_the_schema_of_an_event_refuses_is_refused(rest: httpx.AsyncClient) -> None:
    for event in NOT_EVENTS:
        assert not valid({"$ref": f"{PART}Event"}, event), event
        assert (await rest.post("/api/v1/events", json=event)).status_code == 422, event


async def test_the_example_of_every_topic_fits_the_schema_and_is_taken(rest: httpx.AsyncClient) -> None:
    names = [name.removeprefix("data.") for name in COMMITTED["components"]["schemas"] if name.startswith("data.")]
    payloads = [payload for payload in catalog if payload.__topic__ in names]
    assert len(payloads) > 10
    for payload in payloads:
        example = payload.example()
        assert example is not None
        event = {"type": payload.__topic__, "data": example.model_dump(mode="json")}
        assert valid({"$ref": f"{PART}Event"}, event), event
        assert valid({"$ref": f"{PART}data.{payload.__topic__}"}, event["data"]), event
        assert (await rest.post("/api/v1/events", json=event)).status_code == 202, event


def examples(operation: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Media type and value: what is shown beside a schema, or in it."""
    found = []
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        found += [(media, one["value"]) for one in content.get("examples", {}).values()]
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        found += [(media, one) for one in COMMITTED["components"]["schemas"].get(name, {}).get("examples", [])]
    return found


def test_every_example_fits_its_schema_and_every_body_of_ours_has_one() -> None:
    for path, item in COMMITTED["paths"].items():
        for operation in item.values():
            if path.startswith("/api/v1/webhooks/") or "requestBody" not in operation:
                continue
            found = examples(operation)
            assert found, path
            for media, value in found:
                assert valid(operation["requestBody"]["content"][media]["schema"], value), (path, value)


async def test_every_example_works(rest: httpx.AsyncClient, github: FakeGitHub) -> None:
    served = (await rest.get("/api/v1/openapi.json")).json()["paths"]
    for path, item in served.items():
        for media, value in examples(item.get("post", {})):
            if path.endswith(("check_run", "/pr")):  # only a GitHub App makes the one; the other is made already
                continue
            if "sha" in value:
                github.commits[value["sha"]] = "acme/api"
            content = json.dumps(value).replace("#deployments", "#general")
            answer = await rest.post(path.format(name="slack"), content=content, headers={"Content-Type": media})
            assert answer.status_code in (200, 201, 202), (path, value, answer.text)


# -- statuses --------------------------------------------------------------------------------------------------------


def asked(operation: Operation, name: str = "github") -> tuple[str, Any]:
    """An address of the operation, and a body that fits."""
    path = operation.path.format(name=name, integration=name, type="pull_request")
    if operation.artifact is not None:
        return path, {"title": "Move to v2"}
    shown = operation.body.examples.get("application/json", {"none": {}}) if operation.body is not None else {"": None}
    return path, next(iter(shown.values()))


FAILURES = [
    errors.RateLimited("slowly"),
    errors.Misconfigured("no"),
    errors.ServiceFault("down"),
    errors.NotReady("not yet"),
    errors.OutcomeUnknown("cut off"),
    errors.Unauthorized("no"),
    errors.Replayed("before"),
]


async def slowly() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.sleep(60)


def stranger(runtime: Runtime, conforms: Conformance) -> httpx.AsyncClient:
    """A client that is not of this machine, at a gateway that keeps no log lines."""
    log = runtime.settings.log.model_copy(update={"keep": 0})
    unkept = replace(runtime, settings=runtime.settings.model_copy(update={"log": log}))
    transport = httpx.ASGITransport(build_app(unkept), client=("203.0.113.9", 4711))
    return httpx.AsyncClient(transport=transport, base_url="http://gateway", event_hooks={"response": [conforms]})


async def ask_for_everything(http: httpx.AsyncClient, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each operation what is right, twice, and what is wrong in every way."""
    keyed = {"X-API-Key": key}
    for operation in OPERATIONS:
        path, body = asked(operation)
        mine = keyed | {"Idempotency-Key": operation.id}
        requests: list[dict[str, Any]] = [
            {"headers": mine, "json": body},
            {"headers": mine, "json": body},
            {"headers": mine | {"Host": "elsewhere.example"}, "json": body},
            {"json": body},
            {"headers": keyed, "json": body, "url": asked(operation, "nobody")[0]},
        ]
        if operation.method == "POST":
            requests += [
                {"headers": mine, "json": {"type": "team.joined"}},
                {"headers": mine, "json": {"title": "another"}},
                {"headers": mine, "json": {"message": "another"}},
                {"headers": keyed, "json": {"nothing": "of this"}},
                {"headers": keyed | {"Content-Encoding": "gzip"}, "content": b""},
                {"headers": keyed, "content": b" " * 20_000},
                {"headers": keyed, "content": slowly()},
            ]
        with monkeypatch.context() as patch:
            patch.setattr(service.gateway.body, "BODY_SECONDS", 0.05)
            for request in requests:
                await http.request(operation.method, **{"url": path, **request})


async def let_it_fail(
    http: httpx.AsyncClient, key: str, adapter: Everything, runtime: Runtime, operation: Operation
) -> None:
    """The same with an integration that fails in every way, and with one that is asked while it is busy."""
    path, body = asked(operation)
    for adapter.failure in FAILURES if operation.names != "exposes" else [errors.NotReady("not yet")]:
        if isinstance(adapter.failure, errors.Refusal) == (operation.access == "signature"):
            await http.request(operation.method, path, headers={"X-API-Key": key}, json=body)
            await runtime.bus._connection.do("DEL", runtime.bus._keys.gate("github"))  # time has passed
    adapter.failure = None
    if operation.acts:
        adapter.go = asyncio.Event()
        held: dict[str, Any] = {"headers": {"X-API-Key": key, "Idempotency-Key": f"held {operation.id}"}, "json": body}
        async with asyncio.TaskGroup() as group:
            group.create_task(http.request(operation.method, path, **held))
            await adapter.busy.wait()
            assert (await http.request(operation.method, path, **held)).headers["retry-after"]
            adapter.go.set()
        adapter.go = None
        adapter.busy.clear()


async def test_every_status_that_is_documented_is_given(
    open_gateway: Open, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And every answer on the way is as it is documented: `Conformance` looks at each."""
    adapter = Everything()

    def account() -> Account:
        return Account("github", adapter, Nothing())

    async with open_gateway(account(), max_body_bytes=10_000, allowed_hosts=("127.0.0.1", "gateway")) as (
        runtime,
        http,
    ):
        conforms = http.event_hooks["response"][0]
        assert isinstance(conforms, Conformance)
        for operation in OPERATIONS:
            if operation.names not in (None, "all") or operation.artifact:
                await let_it_fail(http, key, adapter, runtime, operation)
        for client in (http, stranger(runtime, conforms)):
            if client is not http:
                await ask_for_everything(client, key, monkeypatch)
            for operation in OPERATIONS:
                path, body = asked(operation)
                await client.request(operation.method, path, headers={"X-API-Key": key}, json=body)

    others = [open_gateway(api_keys=()), open_gateway(), open_gateway(account(), url=NOWHERE)]
    for other in others:
        async with other as (runtime, http):
            http.event_hooks = {"response": [conforms]}
            for client in (http, stranger(runtime, conforms)):
                for operation in OPERATIONS:
                    path, body = asked(operation)
                    await client.request(operation.method, path, headers={"X-API-Key": key}, json=body)

    wanted = {
        (operation["operationId"], status)
        for item in conforms.document["paths"].values()
        for operation in item.values()
        for status in operation["responses"]
    }
    assert wanted - conforms.seen == set()
