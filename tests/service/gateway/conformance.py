"""Holds answers to the OpenAPI document: each status is documented, and each body is as it is described."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from eventbus import catalog
from service.gateway.openapi import Named, document
from service.gateway.operations import OPERATIONS
from service.wiring import Runtime

PROBLEM = "#/components/schemas/ProblemDocument"
ROUTING = (404, 405)
"""What an address or a method gets that is not here; there is no operation that could have it."""


class Conformance:
    """Looks at every answer of a gateway. `seen`: operationId and status of those that an operation gave."""

    def __init__(self, runtime: Runtime) -> None:
        named = [Named.of(account.name, account.adapter) for account in runtime.registry]
        self.document = document(OPERATIONS, named, catalog, version="0")
        self.seen: set[tuple[str, str]] = set()

    async def __call__(self, answer: httpx.Response) -> None:
        await answer.aread()
        request, status = answer.request, answer.status_code
        operation = self._operation(request.method, request.url.path)
        if operation is None or (status == 500 and "500" not in operation["responses"]):  # a test broke it on purpose
            assert status in (400, 401, 403, 500, *ROUTING), f"{request.method} {request.url.path} answered {status}"
            self._check({"$ref": PROBLEM}, answer)
            return
        found = next((one for one in (str(status), f"{status // 100}XX") if one in operation["responses"]), None)
        assert found is not None, (
            f"{operation['operationId']} answered {status}, which is not documented: {answer.text}"
        )
        self.seen.add((operation["operationId"], found))
        response = self._resolved(operation["responses"][found])
        assert "x-request-id" in answer.headers
        assert "Retry-After" in response["headers"] or "retry-after" not in answer.headers
        kind = answer.headers.get("content-type", "").partition(";")[0]
        content = response["content"].get(kind) or response["content"].get("*/*")
        assert content is not None, f"{operation['operationId']} {status} answered {kind}, which is not documented"
        self._check(content["schema"], answer)

    def _operation(self, method: str, path: str) -> Mapping[str, Any] | None:
        item = self.document["paths"].get(path)
        for template, one in self.document["paths"].items():
            if item is None and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
                item = one
        return (item or {}).get("get" if method == "HEAD" else method.lower())

    def _resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        for name in node["$ref"].removeprefix("#/").split("/") if "$ref" in node else ():
            node = self.document if name == "components" else node
            node = node[name]
        return node

    def _check(self, schema: Mapping[str, Any], answer: httpx.Response) -> None:
        if answer.request.method == "HEAD":
            return
        is_json = "json" in answer.headers.get("content-type", "")
        body = json.loads(answer.content) if is_json else answer.text
        Draft202012Validator({"components": self.document["components"], **schema}).validate(body)
