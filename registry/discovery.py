"""Which adapters are installed: entry points of the group `eventbus.integrations`, ours and third parties' alike.

A distribution offers one with

    [project.entry-points."eventbus.integrations"]
    jira = "acme_jira:Jira"

Every entry is listed, a broken one with its reason, and none keeps the others from being found. Nothing is
constructed here: `settings` validates the config, `registry` makes the instances.
"""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from pydantic import BaseModel

from eventbus.pattern import check_pattern
from integrations.base import Integration, Manifest

ENTRY_POINT_GROUP = "eventbus.integrations"
OURS = "eventbus-integrations"
"""The distribution whose adapters keep their names whatever else is installed."""

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
"""What an adapter or a configured integration may be called: it becomes a consumer group, a metric label, a segment of
a Redis key and of a URL."""

RESERVED_KEYS = frozenset(
    {"enabled", "adapter", "topics", "start", "timeout", "dry_run", "when_unknown", "paced", "breaker_seconds"}
    | {"max_effects_per_minute"}
)
"""Keys of an `integrations.<name>` section that belong to the registry (`settings.IntegrationSettings`)."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One entry point: the class it leads to, or the reason why it can't be used. Exactly one of them is there."""

    name: str
    distribution: str
    version: str
    integration: type[Integration[Any]] | None = None
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


@dataclass(frozen=True, slots=True)
class Discovered:
    """Every entry, by name; where a name was offered twice, its owner stands first."""

    entries: tuple[Adapter, ...]

    @property
    def adapters(self) -> Mapping[str, Adapter]:
        """The owner of each name, usable or not."""
        return {entry.name: entry for entry in reversed(self.entries)}

    @property
    def broken(self) -> tuple[Adapter, ...]:
        """The entries that can't be used, each with its reason."""
        return tuple(entry for entry in self.entries if entry.integration is None)


def discover(entry_points: Iterable[metadata.EntryPoint] | None = None) -> Discovered:
    """Load every adapter that is installed, or those given. Never raises for a broken one.

    A name belongs to one distribution: to ours if we offer it, else to the first in alphabetical order, so that the
    answer does not depend on the order of sys.path. The others of that name are not even imported.
    """
    found = metadata.entry_points(group=ENTRY_POINT_GROUP) if entry_points is None else entry_points
    owners: dict[str, Adapter] = {}
    entries = []
    for entry in sorted(found, key=_rank):
        owner = owners.get(entry.name)
        adapter = _load(entry) if owner is None else _refused(entry, f"the name belongs to {owner}: choose another")
        owners.setdefault(entry.name, adapter)
        entries.append(adapter)
    return Discovered(tuple(entries))


def _rank(entry: metadata.EntryPoint) -> tuple[str, bool, str]:
    distribution, _ = _origin(entry)
    return entry.name, distribution != OURS, distribution


def _origin(entry: metadata.EntryPoint) -> tuple[str, str]:
    """Distribution, its name normalised as PEP 503 says, and version. A half-removed one has lost its METADATA."""
    known = dict(entry.dist.metadata.json) if entry.dist else {}
    name, version = (str(known.get(key, "unknown")) for key in ("name", "version"))
    return re.sub(r"[-_.]+", "-", name).lower(), version


def _refused(entry: metadata.EntryPoint, reason: str) -> Adapter:
    return Adapter(entry.name, *_origin(entry), reason=reason)


def _load(entry: metadata.EntryPoint) -> Adapter:
    """Import and check one entry.

    Any Exception is that adapter's own fault and stays with it, and so is SystemExit: a module that ends the program
    when imported must not end ours. KeyboardInterrupt and what else stands outside Exception go through: they are
    meant for the program, not for the adapter.
    """
    try:
        loaded = entry.load()
        reason = _reason_against(loaded, entry.name)
    except (Exception, SystemExit) as error:  # noqa: BLE001
        return _refused(entry, " ".join("".join(traceback.format_exception_only(error)).split()))
    return _refused(entry, reason) if reason else Adapter(entry.name, *_origin(entry), integration=loaded)


def _reason_against(loaded: object, name: str) -> str | None:
    """Why this can't serve as the adapter of that name; None when it can."""
    if not (isinstance(loaded, type) and issubclass(loaded, Integration)):
        return f"{_called(loaded)} is not a subclass of integrations.base.Integration"
    if missing := sorted(getattr(loaded, "__abstractmethods__", ())):
        return f"{_called(loaded)} does not implement {', '.join(missing)}"
    manifest = getattr(loaded, "manifest", None)
    if not isinstance(manifest, Manifest):
        return f"{_called(loaded)} has no manifest: set the class attribute `manifest` to an integrations.base.Manifest"
    return _reason_against_manifest(manifest, name)


def _reason_against_manifest(manifest: Manifest, name: str) -> str | None:
    if not NAME.fullmatch(manifest.name):
        return f"its manifest's name {manifest.name!r} is not lower-case letters, digits, - and _, 63 at most"
    if manifest.name != name:
        return f"its manifest is named {manifest.name!r}, its entry point {name!r}: they must be equal"
    config: object = manifest.config  # a third party's word for it
    if not (isinstance(config, type) and issubclass(config, BaseModel)):
        return "its manifest's config is not a pydantic model"
    if taken := sorted(RESERVED_KEYS & config.model_fields.keys()):
        return f"its config has {', '.join(taken)}: these keys belong to the registry, rename them"
    for pattern in (*manifest.handles, *manifest.emits):
        check_pattern(pattern)
    return None


def _called(loaded: object) -> str:
    return f"{loaded.__module__}.{loaded.__qualname__}" if inspect.isclass(loaded) else type(loaded).__name__
