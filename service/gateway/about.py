"""What the gateway says of itself: what is here, its OpenAPI document, and which integrations are configured.

Made from the table of operations and the manifests; of the settings only which integrations there are and whether they
are enabled. How they are is `health`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib import metadata
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from eventbus import catalog
from integrations.base import Integration
from registry.account import topics_taken
from registry.discovery import OURS, discover
from registry.registry import UnknownIntegration
from service import manifests
from service.gateway.answers import Index, IntegrationFacts, Integrations
from service.gateway.forms import Untitled
from service.gateway.openapi import Named, document
from service.gateway.operations import INTEGRATION, OPENAPI, OPERATIONS
from service.wiring import Runtime


class About:
    """`/`, /api/v1/openapi.json and /api/v1/integrations."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def index(self, _: Request) -> Response:
        """For whoever opens the address in a browser."""
        said = {one.id: f"{one.method} {one.path}" for one in OPERATIONS}
        return JSONResponse(Index(name="eventbus gateway", openapi=OPENAPI.path, operations=said).model_dump())

    async def openapi(self, _: Request) -> Response:
        """`GET /api/v1/openapi.json`: with the integrations that answer here, by the names that they have here."""
        return Response(self._document, media_type="application/json")

    async def integrations(self, _: Request) -> Response:
        """`GET /api/v1/integrations`: every one that the settings have."""
        facts = [self._known[name] for name in sorted(self._known)]
        return JSONResponse(Integrations(integrations=facts).model_dump(mode="json", by_alias=True))

    async def integration(self, request: Request) -> Response:
        """`GET /api/v1/integrations/{name}`."""
        name = request.path_params["name"]
        if name not in self._known:
            known = ", ".join(sorted(self._known)) or "none"
            raise UnknownIntegration(f"no integration {name!r} is configured; {INTEGRATION.path} has: {known}")
        return JSONResponse(self._known[name].model_dump(mode="json", by_alias=True))

    @cached_property
    def _document(self) -> bytes:
        """Made once: that takes a tenth of a second, in which nobody else is answered."""
        named = [Named.of(account.name, account.adapter) for account in self._runtime.registry]
        made = document(OPERATIONS, named, catalog, version=metadata.version(OURS))
        return json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode()

    @cached_property
    def _known(self) -> dict[str, IntegrationFacts]:
        return {facts.name: facts for facts in self._facts()}

    def _facts(self) -> Iterator[IntegrationFacts]:
        adapters = discover().adapters
        for account in self._runtime.registry:
            entry = adapters.get(account.adapter.manifest.name)
            found = entry.integration if entry else None
            version = entry.version if entry else None
            yield _facts(account.name, found or type(account.adapter), version, account.takes, enabled=True)
        for name, section in self._runtime.settings.integrations.items():
            entry = adapters.get(section.adapter)
            if not section.enabled and entry is not None and entry.integration is not None:
                takes = topics_taken(entry.integration.manifest, None, section.topics)
                yield _facts(name, entry.integration, entry.version, takes, enabled=False)


def _facts(
    name: str, adapter: type[Integration[Any]], version: str | None, takes: Sequence[str], *, enabled: bool
) -> IntegrationFacts:
    said = manifests.facts(adapter, takes)
    own = {
        "name": name,
        "adapter": said["name"],
        "version": version,
        "enabled": enabled,
        "webhooks": f"/api/v1/webhooks/{name}" if said["webhooks"] else None,
        "artifacts": {
            kind: {"schema": model.model_json_schema(schema_generator=Untitled)}
            for kind, model in adapter.manifest.artifacts.items()
        },
    }
    return IntegrationFacts.model_validate(said | own)
