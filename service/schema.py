"""The JSON schema of a settings file, for editors: completion, descriptions, and most faults while one types.

Made from the models of `registry.sections` and of the manifests, for the adapters that it is given. Whether a file is
right is for `eventbus config check` to say. What that accepts is accepted here, but for numbers and true or false that
stand in quotes; where a validator of an adapter sees the raw value, other forms pass too. Pure.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, PydanticJsonSchemaWarning
from pydantic_core import core_schema

from integrations.base import Manifest
from registry.discovery import RESERVED_KEYS
from registry.sections import IntegrationSettings, Settings

DIALECT = "https://json-schema.org/draft/2020-12/schema"
VARIABLE: JsonSchemaValue = {"type": "string", "pattern": r"\$\{[A-Za-z_]"}
"""A value that the environment gives (`registry.yaml_source`): what it holds can't be known here."""

NAMED: JsonSchemaValue = {"$ref": "#/$defs/Account"}
"""An account that says its adapter; adapters' own names are in lower case."""

_LIMITS = {"enum", "const", "pattern", "minLength", "maxLength"}
_BESIDE = ("description", "default", "examples")
"""What is said of a value, and not checked."""


def config_schema(manifests: Iterable[Manifest]) -> JsonSchemaValue:
    """The schema of a settings file in which these adapters may be configured."""
    schema = _schema_of(Settings)
    parts = schema.pop("$defs")
    common = parts.pop(IntegrationSettings.__name__)["properties"]
    common = {key: part for key, part in common.items() if key in RESERVED_KEYS}
    names = []
    for manifest in sorted(manifests, key=lambda manifest: manifest.name):
        own = _schema_of(manifest.config, f"{manifest.name}.")
        parts |= {f"{manifest.name}.{key}": part for key, part in own.pop("$defs", {}).items()}
        parts[manifest.name] = _account(own, common, manifest.title)
        names.append(manifest.name)
    parts["Account"] = _named(names)
    sections = schema["properties"]
    sections["integrations"] = _accounts(names) | {"description": sections["integrations"]["description"]}
    schema["properties"] = {key: _or_empty(section) for key, section in sections.items()}
    about = f"Settings of eventbus, with the adapters {', '.join(names)}. `eventbus config check` decides."
    return {"$schema": DIALECT, **schema, "description": about, "$defs": dict(sorted(parts.items()))}


class _Lenient(GenerateJsonSchema):
    """Lets through what a validator of the raw value may take."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        """A model's may know other spellings of its keys; a value's may take a text instead of something longer."""
        made = super().function_before_schema(schema)
        if "properties" in made:
            return {key: value for key, value in made.items() if key != "required"} | {"additionalProperties": True}
        if made.get("type") in ("string", "number", "integer", "boolean"):
            return made
        return {"anyOf": [made, {"type": "string"}]}


def _schema_of(model: type[BaseModel], prefix: str = "") -> JsonSchemaValue:
    """A model's schema, its parts under names with this prefix."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)  # a default that JSON can't hold is left out
        schema = model.model_json_schema(schema_generator=_Lenient, ref_template=f"#/$defs/{prefix}{{model}}")
    numbers = bool(model.model_config.get("coerce_numbers_to_str"))
    opened: JsonSchemaValue = _opened(schema, numbers=numbers)
    return opened


def _opened(node: Any, *, numbers: bool) -> Any:
    """The schema without the titles that are mere names, and with a variable wherever a value is more than any text.

    numbers  a number may stand for a text
    """
    if isinstance(node, list):
        return [_opened(one, numbers=numbers) for one in node]
    if not isinstance(node, dict):
        return node
    opened = {}
    for key, value in node.items():
        if key in ("properties", "$defs"):
            opened[key] = {name: _opened(one, numbers=numbers) for name, one in value.items()}
        elif key in _BESIDE or key in _LIMITS:
            opened[key] = value
        elif key != "title":
            opened[key] = _opened(value, numbers=numbers)
    return _with_variable(opened, numbers=numbers)


def _with_variable(node: dict[str, Any], *, numbers: bool) -> dict[str, Any]:
    kind = node.get("type")
    if kind == "string" and numbers and not _LIMITS & node.keys():
        return node | {"type": ["string", "number"]}
    if kind not in ("integer", "number", "boolean") and not _LIMITS & node.keys():
        return node
    beside = {key: node[key] for key in _BESIDE if key in node}
    rule = {key: value for key, value in node.items() if key not in beside}
    return {**beside, "anyOf": [rule, VARIABLE]}


def _account(own: JsonSchemaValue, common: JsonSchemaValue, title: str) -> JsonSchemaValue:
    """The section of one account: its adapter's keys and those of every integration. Disabled, it may lack any."""
    required = own.pop("required", [])
    account = {**own, "title": title, "properties": {**own.get("properties", {}), **common}}
    if required:
        off = {"properties": {"enabled": {"const": False}}, "required": ["enabled"]}
        account |= {"if": off, "else": {"required": required}}
    return account


def _accounts(names: list[str]) -> JsonSchemaValue:
    """The section `integrations`: a key is the adapter's name, unless `adapter` says which it is."""
    own = {name: _or_empty({"$ref": f"#/$defs/{name}"}) for name in names}
    return {
        "type": "object",
        "properties": {name: {"if": {"required": ["adapter"]}, "then": NAMED, "else": own[name]} for name in names},
        "additionalProperties": NAMED,
    }


def _named(names: list[str]) -> JsonSchemaValue:
    """The section of an account that says its adapter."""
    chosen = [
        {"if": {"properties": {"adapter": {"const": name}}}, "then": {"$ref": f"#/$defs/{name}"}} for name in names
    ]
    return {
        "type": "object",
        "properties": {"adapter": {"enum": names}},
        "required": ["adapter"],
        "allOf": chosen,
    }


def _or_empty(section: JsonSchemaValue) -> JsonSchemaValue:
    """A key with nothing behind it is an empty section."""
    beside = {key: section[key] for key in _BESIDE if key in section}
    return {**beside, "anyOf": [{key: value for key, value in section.items() if key not in beside}, {"type": "null"}]}
