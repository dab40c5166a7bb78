"""The settings of a process: one YAML file, checked as a whole, into frozen typed values.

Every fault of the file is reported at once, each with its line and what to do. The environment and the adapters are
handed in by the caller. What may be set is `sections`; reading YAML and replacing variables is `yaml_source`; an
adapter's own keys are checked by the model in its manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from eventbus.pattern import common
from integrations.base import Manifest, Target
from registry.account import targets_of
from registry.discovery import ENTRY_POINT_GROUP, NAME, RESERVED_KEYS, Adapter
from registry.faults import ConfigError, Fault, Loc, describe, did_you_mean, keys_at, scrubbed, unknown_key
from registry.noise.store import TABLE
from registry.routes.check import Finding, check
from registry.sections import Events, Gateway, IntegrationSettings, Log, Redis, Retention, Settings, Worker
from registry.yaml_source import Source, read

DEFAULT_INTEGRATION = "log"
BUS = "event_bus"

CALL_SHARE_OF_LEASE = 2 / 3
"""A call may take this share of the lease; the rest is for settling before another worker takes over. A share and
not a number of seconds, so that short leases stay possible; with the default lease of 30 s it leaves 10 s."""


def load(path: Path, adapters: Mapping[str, Adapter], environ: Mapping[str, str]) -> Settings:
    """Read and check a file. Raises ConfigError with all its faults, not just the first."""
    return load_with_warnings(path, adapters, environ)[0]


def load_with_warnings(
    path: Path, adapters: Mapping[str, Adapter], environ: Mapping[str, str]
) -> tuple[Settings, Sequence[Fault]]:
    """The same, and what of the file is odd though not wrong."""
    checked = _Check(read(path, environ), adapters)
    return checked.settings(), checked.warnings


def default_settings(adapters: Mapping[str, Adapter]) -> Settings:
    """What holds without a file. Raises ConfigError when the log integration is not installed either."""
    return _Check(Source("default settings"), adapters).settings()


def _findings(settings: Settings, adapters: Mapping[str, Adapter]) -> list[Finding]:
    """What is wrong or odd about routes and topics, with the integrations and the catalogue as they are."""
    manifests, targets = dict[str, Manifest](), dict[str, Sequence[Target]]()
    for name, account in settings.integrations.items():
        adapter = adapters.get(account.adapter)
        if account.enabled and adapter and adapter.integration and account.config is not None:
            manifests[name] = adapter.integration.manifest
            if (named := targets_of(adapter.integration, account.config)) is not None:
                targets[name] = named
    disabled = {name for name, account in settings.integrations.items() if not account.enabled}
    left_out = [
        finding
        for name, named in targets.items()
        for finding in _left_out(name, settings, manifests[name].handles, named)
    ]
    return [*check(settings.routing, manifests, disabled, targets), *left_out]


def _left_out(name: str, settings: Settings, usual: Sequence[str], targets: Sequence[Target]) -> Iterator[Finding]:
    """What the `topics` of an account keep from its targets: everything, or what they ask for beside the usual. Fewer
    of the usual topics are what `topics` are there for."""
    topics = settings.integrations[name].topics
    if topics is None:
        return
    heard = [*topics, *settings.routing.topics_for(name)]
    for target in targets:
        missed = [asked for asked in target.topics if not any(common(asked, one) for one in heard)]
        if len(missed) < len(target.topics):
            missed = [asked for asked in missed if not any(common(asked, one) for one in usual)]
        if missed:
            whose = name if target.is_whole else f"the target {target.name}"
            text = f"leave out {', '.join(missed)}, which {whose} asks for: nothing comes of it, unless you add it here"
            yield Finding(("integrations", name, "topics"), text, is_warning=True)


M = TypeVar("M", bound=BaseModel)


class _Check:
    """One pass over a source, collecting faults."""

    def __init__(self, source: Source, adapters: Mapping[str, Adapter]) -> None:
        self._source = source
        self._adapters = adapters
        self._faults = list(source.faults)
        self.warnings: list[Fault] = []

    def settings(self) -> Settings:
        data = {key: value for key, value in self._source.data.items() if value is not None}  # an empty section
        accounts = self._integrations(data.pop("integrations", {}))
        settings = self._validated(Settings, data, ())
        if settings is not None:
            lease = settings.worker.lease_seconds
            fitted = {name: self._fitted(name, account, lease) for name, account in accounts.items()}
            settings = settings.model_copy(update={"integrations": fitted})
            self._routes(settings)
        if settings is None or self._faults:
            raise ConfigError(self._source.file, self._faults)
        return settings

    def _routes(self, settings: Settings) -> None:
        for finding in _findings(settings, self._adapters):
            said = self.warnings if finding.is_warning else self._faults
            said.append(self._source.fault(finding.path, finding.message))

    def _integrations(self, sections: object) -> dict[str, IntegrationSettings]:
        if not isinstance(sections, dict):
            self._fault(("integrations",), "should be a mapping of names, such as `log: {}`")
            return {}
        sections = {name: {} if section is None else section for name, section in sections.items()}
        if not any(_is_enabled(section) for section in sections.values()):
            sections.setdefault(DEFAULT_INTEGRATION, {})
        checked = {name: self._integration(name, section) for name, section in sections.items()}
        return {name: account for name, account in checked.items() if account is not None}

    def _integration(self, name: str, section: object) -> IntegrationSettings | None:
        loc: Loc = ("integrations", name)
        if not NAME.fullmatch(name):
            self._fault(loc, "a name is lower-case letters, digits, - and _, 63 at most, a letter first")
        if name == BUS:
            self._fault(loc, "is the bus' own name in /api/v1/health: choose another")
        if name == TABLE:
            self._fault(loc, "is the name of our own table in Redis, of silences and groups: choose another")
        if not isinstance(section, dict):
            self._fault(loc, "should be a mapping, such as `enabled: true`")
            return None
        enabled = _is_enabled(section)
        if not enabled:
            self._forgive_unreadable(loc)
        common = {key: value for key, value in section.items() if key in RESERVED_KEYS}
        account = self._validated(IntegrationSettings, {"adapter": name, **common}, loc)
        config = self._config(loc, section, account.adapter if account else section.get("adapter", name), enabled)
        return account and account.model_copy(update={"config": config if enabled else None})

    def _config(self, loc: Loc, section: dict[str, Any], name: object, enabled: bool) -> BaseModel | None:
        adapter = self._adapters.get(name) if isinstance(name, str) else None
        if adapter is None or adapter.integration is None:
            if enabled:
                self._fault((*loc, "adapter") if "adapter" in section else loc, self._why_not(str(name), adapter))
            return None
        own = {key: value for key, value in section.items() if key not in RESERVED_KEYS}
        model = adapter.integration.manifest.config
        return self._validated(model, own, loc, of_adapter=True, only_unknown_keys=not enabled)

    def _why_not(self, name: str, adapter: Adapter | None) -> str:
        if adapter is not None:
            return f"the adapter {adapter} can't be used: {adapter.reason}"
        known = sorted(name for name, adapter in self._adapters.items() if adapter.integration is not None)
        return (
            f"no adapter {name!r} is installed{did_you_mean(name, known)}; known: {', '.join(known) or 'none'}. "
            f"Install the package that offers it (entry point group {ENTRY_POINT_GROUP}), "
            "name a known one with `adapter:`, or set `enabled: false`"
        )

    def _forgive_unreadable(self, loc: Loc) -> None:
        """A disabled integration may lack its variables; only `enabled` itself must be readable."""
        spared = {at for at in self._source.unreadable if at[: len(loc)] == loc and at != (*loc, "enabled")}
        self._faults = [fault for fault in self._faults if fault.path not in spared]

    def _fitted(self, name: str, account: IntegrationSettings, lease_seconds: float) -> IntegrationSettings:
        """The timeout within its share of the lease: the default is shortened, one that the file gives is a fault."""
        longest = lease_seconds * CALL_SHARE_OF_LEASE
        if account.timeout <= longest or not account.enabled:
            return account
        if "timeout" in account.model_fields_set:
            self._fault(
                ("integrations", name, "timeout"),
                f"is more than two thirds of worker.lease_seconds, {longest:g} s: another worker could take over "
                "during a call; shorten it, or lengthen the lease",
            )
        return account.model_copy(update={"timeout": longest})

    def _validated(
        self,
        model: type[M],
        data: Mapping[str, Any],
        loc: Loc,
        *,
        of_adapter: bool = False,
        only_unknown_keys: bool = False,
    ) -> M | None:
        """The model of this data, or None and its faults. An adapter's model is not trusted to be discreet."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False, include_context=False)
        except Exception as error:  # noqa: BLE001  a validator of an adapter may raise anything
            details = []
            if not only_unknown_keys:
                self._fault(loc, f"refused: {scrubbed(f'{type(error).__name__}: {error}', data)}")
        for detail in details:
            if detail["type"] == "extra_forbidden" or not (only_unknown_keys or _is_echo(detail, details)):
                self._report(detail, model, loc, of_adapter)
        return None

    def _report(self, detail: ErrorDetails, model: type[BaseModel], loc: Loc, of_adapter: bool) -> None:
        at = self._source.written((*loc, *detail["loc"]))
        if detail["type"] == "missing":
            at = (*at, detail["loc"][-1])
        elif detail["type"] != "extra_forbidden" and any(
            unreadable[: len(at)] == at for unreadable in self._source.unreadable
        ):
            return  # the value could not be made out: that has its own fault
        if detail["type"] == "extra_forbidden":
            beside = RESERVED_KEYS if of_adapter and len(detail["loc"]) == 1 else frozenset()
            self._fault(at, unknown_key(str(at[-1]), keys_at(model, detail["loc"][:-1]) | beside))
            return
        value = self._source.at(self._source.written(at))
        text = describe(detail, value)
        self._fault(at, scrubbed(text, value) if of_adapter else text)

    def _fault(self, loc: Loc, message: str) -> None:
        self._faults.append(self._source.fault(loc, message))


def _is_enabled(section: object) -> bool:
    """Whether a section says so; True where it can't be told, so that its faults are shown."""
    try:
        return TypeAdapter(bool).validate_python(section["enabled"] if isinstance(section, dict) else True)
    except (KeyError, ValidationError):
        return True


def _is_echo(detail: ErrorDetails, details: Iterable[ErrorDetails]) -> bool:
    """Whether a list is called too short only because pydantic left its faulty items out."""
    loc = detail["loc"]
    return detail["type"] == "too_short" and any(d["loc"][: len(loc)] == loc != d["loc"] for d in details)


__all__ = [
    "ConfigError",
    "Events",
    "Fault",
    "Gateway",
    "IntegrationSettings",
    "Log",
    "Redis",
    "Retention",
    "Settings",
    "Worker",
    "default_settings",
    "load",
    "load_with_warnings",
]
