"""docs/http.md says what the gateway has."""

from __future__ import annotations

import re
from pathlib import Path

import service.gateway.body
import service.gateway.webhooks
import service.http
from eventbus import EventBus
from registry.metrics import Metrics
from registry.registry import Registry
from registry.settings import Settings
from service.gateway import api
from service.gateway.app import build_app
from service.wiring import Runtime

TEXT = (Path(__file__).parents[3] / "docs/http.md").read_text()


async def test_every_route_is_documented_and_no_other() -> None:
    async with EventBus.open("memory://") as bus:
        metrics = Metrics()
        app = build_app(Runtime(Settings(), bus, Registry(bus, metrics, serve=False), metrics))
    routes = {
        (getattr(route, "path", ""), "POST" if "POST" in getattr(route, "methods", ()) else "GET")
        for route in app.routes
    }
    assert set(re.findall(r"^\| `(/[^`]*)` \| (GET|POST) \|", TEXT, re.MULTILINE)) == routes


def test_the_numbers_are_those_of_the_code() -> None:
    words = " ".join(TEXT.split())
    for said in (
        f"The head of a request has {service.http.HEAD_SECONDS:g} s and {service.http.MAX_HEAD_BYTES // 1024} KiB",
        f"its body {service.gateway.body.BODY_SECONDS:g} s",
        f"an idle connection {service.http.IDLE_SECONDS} s; {service.http.MAX_CONNECTIONS} connections at once",
        f"A list of events, at most {api.MAX_BATCH}",
        f"does not confirm within {service.gateway.webhooks.PUBLISH_SECONDS:g} s",
        f"{service.gateway.body.MAX_DEPTH} levels and {service.gateway.body.MAX_KEYS:,} names",
    ):
        assert said in words
    for topic in api.RESERVED:
        assert f"`{topic}`" in TEXT
