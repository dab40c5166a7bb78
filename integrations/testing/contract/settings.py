"""Rules 1 and 14: what a person meets first, the settings and the README."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from integrations.testing.contract.bench import Bench
from integrations.testing.fake import FakeService
from integrations.testing.rules import rule


class SettingsRules(Bench):
    """The settings are checked by name, and each stands in the README."""

    @rule(1)
    def test_a_missing_setting_is_reported_by_its_name(self, service: FakeService) -> None:
        model, settings = self.adapter.manifest.config, service.settings()
        required = set(model.model_json_schema().get("required", ()))
        assert required <= set(settings), f"the fake's settings lack {required - set(settings)}"
        for name in settings:
            error = invalid(model, {key: value for key, value in settings.items() if key != name})
            assert error is None or name in error, f"the error for a missing {name} does not name it: {error}"

    @rule(14)
    def test_the_readme_names_every_setting(self) -> None:
        readme = Path(inspect.getfile(self.adapter)).with_name("README.md")
        assert readme.is_file(), f"{readme} is missing: say there what the adapter is for and how it is set up"
        text = readme.read_text("utf-8")
        missing = [name for name in _names(self.adapter.manifest.config) if name not in text]
        assert not missing, f"{readme} does not name these settings: {', '.join(missing)}"


def invalid(model: type[BaseModel], settings: Mapping[str, Any]) -> str | None:
    """What is wrong with the settings; None when nothing is."""
    try:
        model.model_validate(settings)
    except ValidationError as error:
        return str(error)
    return None


def _names(model: type[BaseModel]) -> list[str]:
    """The names of a config's fields, those of the models inside it too."""
    schema = model.model_json_schema()
    return [name for part in (schema, *schema.get("$defs", {}).values()) for name in part.get("properties", {})]
