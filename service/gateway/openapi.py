"""The OpenAPI 3.1 document of the gateway, made from the table of operations and from the manifests.

What may be named in a path is said by the integrations: each kind of artifact has a path and a body of its own, so that
a generated client has a typed call for it; a notification has one form everywhere, so one path names them all. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from eventbus import Payload
from integrations.base import Exposes, Inbound, Integration, Manifest
from service.gateway import answers, forms
from service.gateway.operations import ACCESS, PROBLEMS, Answer, Body, Operation, Shape
from service.gateway.problems import PROBLEM_TYPE, ProblemDocument
from service.manifests import EFFECTS

Schema = dict[str, Any]

_ABOUT = """\
Publish events, send notifications, make artifacts, ask how everything is. Workers do what events ask for.

Every refusal is a problem document (RFC 9457). An address that is not here is 404, another method 405 with `Allow`;
a Host outside `gateway.allowed_hosts` is 400 everywhere. JSON is read to the letter (RFC 8259, RFC 7493): UTF-8,
no NaN, no doubled names, integers of 64 bits. docs/http.md has the limits of connections, heads and bodies.
"""
_KEYS: list[dict[str, list[str]]] = [{"bearer": []}, {"apiKey": []}]
_SECURITY: Mapping[str, list[dict[str, list[str]]]] = {
    "everybody": [],
    "details": [{}, *_KEYS],
    "machine": [{}, *_KEYS],
    "key": _KEYS,
    "signature": [],
}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "One of `gateway.api_keys`"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "One of `gateway.api_keys`"},
}
_HEADERS: Mapping[str, Schema] = {
    "X-Request-Id": {
        "description": "The caller's, or a new one; the log lines of the request have it, too",
        "schema": {"type": "string"},
    },
    "Idempotency-Key": {
        "description": "Under which key the request stands: repeat it with that",
        "schema": {"type": "string"},
    },
    "Idempotent-Replayed": {"description": "It was done before", "schema": {"const": "true"}},
    "Retry-After": {"description": "Seconds", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
    "Allow": {"description": "The methods that are", "schema": {"type": "string"}},
}
_KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Repeated under the same, it takes effect once (draft-ietf-httpapi-idempotency-key-header)",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$",
    },
    "example": "deploy-118-done",
}
_WAITS = (409, 429, 503)


@dataclass(frozen=True, slots=True)
class Named:
    """An integration under the name that it has in paths."""

    name: str
    manifest: Manifest
    hears: bool
    exposes: bool

    @classmethod
    def of(cls, name: str, adapter: Integration[Any] | type[Integration[Any]]) -> Named:
        cls_of = adapter if isinstance(adapter, type) else type(adapter)
        return cls(name, adapter.manifest, issubclass(cls_of, Inbound), issubclass(cls_of, Exposes))


def document(
    operations: Sequence[Operation],
    integrations: Iterable[Named],
    payloads: Iterable[type[Payload]],
    *,
    version: str,
    server: str = "/",
) -> Schema:
    """The whole document. An operation that no integration takes part in is left out."""
    named = sorted(integrations, key=lambda one: one.name)
    parts = forms.parts(payloads)
    for model in (answers.Stored, ProblemDocument):
        _lift(model, model.__name__, parts)
    paths: dict[str, Schema] = {}
    ids: set[str] = set()
    for operation in operations:
        for path, made in _made(operation, named, parts):
            while made["operationId"] in ids:  # of the names a-b and a_b
                made["operationId"] += "_"
            ids.add(made["operationId"])
            paths.setdefault(path, {})[operation.method.lower()] = made
    return {
        "openapi": "3.1.1",
        "info": {"title": "eventbus gateway", "version": version, "description": _ABOUT},
        "servers": [{"url": server}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(parts.items())),
            "responses": {f"problem-{status}": _problem(status) for status in _refusals(operations)},
            "headers": dict(_HEADERS),
            "securitySchemes": _SCHEMES,
        },
    }


# -- operations ------------------------------------------------------------------------------------------------------


def _made(operation: Operation, named: Sequence[Named], parts: dict[str, Schema]) -> Iterator[tuple[str, Schema]]:
    """The operation under each of its paths."""
    if operation.artifact is not None:
        yield from _artifacts(operation, operation.artifact, named, parts)
    elif operation.names is None:
        yield operation.path, _told(operation, parts)
    elif names := [one.name for one in named if _takes_part(one, operation.names)]:
        where = operation.path[operation.path.index("{") + 1 : operation.path.index("}")]
        parameter = {"name": where, "in": "path", "required": True, "schema": {"type": "string", "enum": names}}
        if operation.names == "notifies":
            kinds = (f"{one.name} takes {', '.join(one.manifest.notifications)}" for one in named if one.name in names)
            parameter["description"] = f"Whom to ask. Of `type` {'; '.join(kinds)}"
        yield operation.path, _told(operation, parts, [parameter])


def _artifacts(
    operation: Operation, wanted: tuple[str, str], named: Sequence[Named], parts: dict[str, Schema]
) -> Iterator[tuple[str, Schema]]:
    """The operation for each kind of artifact that is wanted and made."""
    integration, type_ = wanted
    for one in named:
        for kind, model in one.manifest.artifacts.items():
            if integration in ("{name}", one.name) and type_ in ("{type}", kind):
                body = Body({"application/json": _lift(model, f"{one.manifest.name}.{model.__name__}", parts)})
                told = replace(
                    operation,
                    id=operation.id.format(name=one.name.replace("-", "_"), type=kind),
                    about=operation.about.format(name=one.name, type=kind),
                    more=f"{one.manifest.title}. In doubt, {EFFECTS[one.manifest.effects]}",
                    body=body,
                )
                yield operation.path.format(name=one.name, type=kind), _told(told, parts)


def _takes_part(one: Named, names: str) -> bool:
    notifies = bool(one.manifest.notifications)
    return {"all": True, "hears": one.hears, "exposes": one.exposes, "notifies": notifies}[names]


def _told(operation: Operation, parts: dict[str, Schema], parameters: Sequence[Schema] = ()) -> Schema:
    everything = [*parameters, *([_KEY_PARAMETER] if operation.acts else [])]
    headers = {"X-Request-Id", *(["Idempotency-Key"] if operation.acts else [])}
    return {
        "operationId": operation.id,
        "summary": operation.about,
        "description": ". ".join(filter(None, [operation.more.rstrip("."), f"Open to: {ACCESS[operation.access]}"])),
        "security": _SECURITY[operation.access],
        **({"parameters": everything} if everything else {}),
        **(_sent(operation.body, parts) if operation.body else {}),
        "responses": {
            **{status: _answer(answer, headers, parts) for status, answer in operation.answers.items()},
            **{str(status): {"$ref": f"#/components/responses/problem-{status}"} for status in _refusals([operation])},
        },
    }


def _refusals(operations: Iterable[Operation]) -> list[int]:
    """400 is what everything may get, for its Host."""
    return sorted({400, *(status for one in operations for status in one.problems)})


def _sent(body: Body, parts: dict[str, Schema]) -> Schema:
    content = {}
    for media, shape in body.shapes.items():
        examples = {name: {"value": value} for name, value in body.examples.get(media, {}).items()}
        content[media] = {"schema": _schema(shape, parts), **({"examples": examples} if examples else {})}
    return {"requestBody": {"required": True, "content": content}}


def _answer(answer: Answer, headers: Iterable[str], parts: dict[str, Schema]) -> Schema:
    content: Schema = {"schema": _schema(answer.shape, parts)}
    if answer.example is not None:
        content["example"] = answer.example
    return {"description": answer.about, "headers": _headers(headers), "content": {answer.media: content}}


def _problem(status: int) -> Schema:
    headers = ["X-Request-Id", "Idempotency-Key", *(["Retry-After"] if status in _WAITS else [])]
    return {
        "description": PROBLEMS[status],
        "headers": _headers(headers),
        "content": {PROBLEM_TYPE: {"schema": forms.part(ProblemDocument.__name__)}},
    }


def _headers(names: Iterable[str]) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in sorted(names)}


# -- schemas ---------------------------------------------------------------------------------------------------------


def _schema(shape: Shape, parts: dict[str, Schema]) -> Mapping[str, Any]:
    return shape if isinstance(shape, Mapping) else _lift(shape, shape.__name__, parts)


def _lift(model: type[BaseModel], name: str, parts: dict[str, Schema]) -> Schema:
    """A reference to the model, which becomes a part of the document with all that it is made of."""
    prefix = name.removesuffix(model.__name__)
    schema = model.model_json_schema(
        schema_generator=forms.Untitled, ref_template=f"#/components/schemas/{prefix}{{model}}"
    )
    parts |= {f"{prefix}{inner}": made for inner, made in schema.pop("$defs", {}).items()}
    parts[name] = schema
    return forms.part(name)
