"""`eventbus integrations list | show | health | send`: what is installed, what it says of itself, how it is, and a
message by hand. Making a new one is `service.cli.scaffold`, trying it `service.cli.stand_in`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from eventbus.event import new_id
from integrations.base import Health, Integration, Notification, Severity
from integrations.testing.rules import MEANING, Tier
from registry.account import targets_of, topics_taken
from registry.discovery import Adapter, discover
from registry.faults import did_you_mean
from registry.settings import ConfigError, IntegrationSettings
from service import manifests
from service.cli import check_integration, output
from service.cli.repair import two_lines
from service.cli.scaffold import new
from service.cli.shell import FAILED, NOTHING, fail, json_option, load_settings, run, settings_options
from service.cli.stand_in import stand_in
from service.wiring import open_runtime, read_settings

LABEL = 14
"""Columns of the labels that `show` prints."""


@click.group()
def integrations() -> None:
    """What is connected. List it, ask how it is, send a message by hand, make one of your own."""


integrations.add_command(new)
integrations.add_command(stand_in)
for command in check_integration.COMMANDS:
    integrations.add_command(command)


@integrations.command("list", epilog="\b\nExample:\n  eventbus integrations list --config config/production.yaml")
@json_option
@settings_options
def list_(as_json: bool, path: Path | None, url: str | None) -> None:
    """Configured integrations, and adapters that are installed but not configured or broken."""
    settings = load_settings(path, url, log_level="error")
    found = discover()
    rows = [_configured(name, section, found.adapters) for name, section in sorted(settings.integrations.items())]
    used = {row["adapter"] for row in rows}
    rows += [_installed(entry) for entry in found.entries if entry.name not in used or entry.integration is None]
    if as_json:
        output.as_json(rows)
        return
    _show(rows)


def _show(rows: list[dict[str, str]]) -> None:
    """A terminal gets what is long on a line of its own; elsewhere each fact has its column."""
    if not sys.stdout.isatty():
        columns = ["name", "adapter", "from", "state", "tier", "effects", "makes", "takes"]
        output.table(columns, [[row[column] for column in columns] for row in rows])
        return
    columns = ["name", "adapter", "state", "tier", "effects", "from"]
    states = [row["state"].partition(": ") for row in rows]
    short = [row | {"state": state} for row, (state, _, _) in zip(rows, states, strict=True)]
    said = [why or _deals_in(row) for row, (_, _, why) in zip(rows, states, strict=True)]
    two_lines(columns, [[row[column] for column in columns] for row in short], said)


def _deals_in(row: Mapping[str, str]) -> str:
    return f"takes {row['takes']}" + (f"; makes {row['makes']}" if row["makes"] else "")


def _configured(name: str, section: IntegrationSettings, adapters: Mapping[str, Adapter]) -> dict[str, str]:
    entry = adapters.get(section.adapter)
    own = {"name": name, "adapter": section.adapter, "state": "on" if section.enabled else "off"}
    if entry is not None and entry.integration is not None:
        own["takes"] = " ".join(_taken(entry.integration, section)) or "-"
    return {**_facts(entry), **own}


def _taken(integration: type[Integration[Any]], section: IntegrationSettings) -> Sequence[str]:
    return topics_taken(integration.manifest, targets_of(integration, section.config), section.topics)


def _installed(entry: Adapter) -> dict[str, str]:
    state = "not configured" if entry.integration is not None else f"broken: {entry.reason}"
    return {**_facts(entry), "name": "-", "adapter": entry.name, "state": state}


def _facts(entry: Adapter | None) -> dict[str, str]:
    if entry is None:
        return dict.fromkeys(["from", "tier", "effects", "makes", "takes"], "-")
    manifest = entry.integration.manifest if entry.integration is not None else None
    return {
        "from": f"{entry.distribution} {entry.version}",
        "tier": (manifest and manifest.tier) or "-",
        "effects": manifest.effects if manifest else "-",
        "makes": " ".join([*manifest.notifications, *manifest.artifacts]) if manifest else "-",
        "takes": (manifest and " ".join(manifest.handles)) or "-",
    }


@integrations.command(
    epilog="\b\nExamples:\n  eventbus integrations show slack --config config/production.yaml\n"
    "  eventbus integrations show pagerduty --json"
)
@click.argument("name")
@json_option
@settings_options
def show(name: str, as_json: bool, path: Path | None, url: str | None) -> None:
    """What the adapter NAME says of itself: topics, settings, artifacts, effects, limits and rights.

    NAME may be an integration of the settings file as well. Then the topics are those that it takes with its settings.
    """
    found = discover().adapters
    section = _section(name, path)
    entry = found.get(name if section is None else section.adapter)
    if entry is None:
        fail(f"no adapter {name!r} is installed{did_you_mean(name, found)}; known: {', '.join(sorted(found))}", NOTHING)
    if entry.integration is None:
        fail(f"the adapter {entry} can't be used: {entry.reason}", FAILED)
    takes = None if section is None else _taken(entry.integration, section)
    facts = {"from": f"{entry.distribution} {entry.version}", **manifests.facts(entry.integration, takes)}
    if as_json:
        output.as_json(facts)
        return
    for label, said in _said(entry.integration, facts):
        click.echo(output.printable(f"{label.ljust(LABEL)}{said}"))
    _fields("settings", facts["settings"])
    for kind, fields in facts["artifacts"].items():
        _fields(f"artifact {kind}", fields)


def _section(name: str, path: Path | None) -> IntegrationSettings | None:
    """Its settings, where the file has them. One with faults is no hindrance: people look up here how to mend them."""
    try:
        return read_settings(path).integrations.get(name)
    except ConfigError:
        click.echo(f"{path} can't be used and counts for nothing here; see: eventbus config check {path}", err=True)
        return None


def _said(integration: type[Integration[Any]], facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What there is to say, a line each: label and text."""
    manifest = integration.manifest
    yield manifest.name, f"{manifest.title}, {facts['from']}"
    lines = {
        "takes": [" ".join(facts["takes"])],
        "publishes": [" ".join(manifest.emits)],
        "webhooks at": [facts["webhooks"]],
        "notifies by": [" ".join(manifest.notifications)],
        "makes": [" ".join(manifest.artifacts)],
        "tier": [f"{manifest.tier}: {MEANING[Tier[manifest.tier.upper()]]}" if manifest.tier else None],
        "effects": [f"{manifest.effects}: {manifests.EFFECTS[manifest.effects]}"],
        "limits": [manifest.limits],
        "budget": map(manifests.budget_text, manifest.budgets),
        "right": map(manifests.scope_text, manifest.scopes),
    }
    for label, texts in lines.items():
        yield from ((label, text) for text in texts if text)


def _fields(title: str, fields: Sequence[Mapping[str, Any]]) -> None:
    click.echo(f"\n{title}")
    rows = [[f["name"], f["type"], f["default"] or "required", _meaning(f)] for f in fields]
    output.table(["key", "type", "default", "meaning"], rows or [["-", "-", "-", "whatever it is given"]])


def _meaning(field: Mapping[str, Any]) -> str:
    return f"{field['meaning']} (secret)" if field["secret"] else field["meaning"]


@integrations.command(epilog="\b\nExample:\n  eventbus integrations health --config config/production.yaml")
@json_option
@settings_options
def health(as_json: bool, path: Path | None, url: str | None) -> None:
    """Ask every configured integration and the bus how they are. Exit code 1 when one is unhealthy."""
    settings = load_settings(path, url, log_level="error")

    async def ask() -> Mapping[str, Health]:
        async with open_runtime(settings, serve=False) as runtime:
            await runtime.registry.start()
            return await runtime.registry.health()

    found = run(ask())
    if as_json:
        output.as_json(
            {name: {"state": h.state, "detail": h.detail, "latency_ms": h.latency_ms} for name, h in found.items()}
        )
    else:
        rows = [
            [name, output.sign(h.state), "-" if h.latency_ms is None else f"{h.latency_ms:.0f} ms", h.detail]
            for name, h in found.items()
        ]
        output.table(["component", "state", "latency", "detail"], rows)
        if all((one.adapter or name) == "log" for name, one in settings.integrations.items()):
            said = (
                "no service is configured, events reach the log at most; eventbus integrations list shows what there is"
            )
            click.echo(said, err=True)
    if any(h.state == "unhealthy" for h in found.values()):
        raise SystemExit(FAILED)


@integrations.command(
    epilog="""\b
Examples:
  eventbus integrations send slack "Deploy starts in 5 minutes" --to '#deployments'
  eventbus integrations send github "Benchmarks are attached." --to acme/api#7"""
)
@click.argument("name")
@click.argument("message")
@click.option("--to", "target", default="", metavar="TARGET", help="Channel, person, pull request or endpoint.")
@click.option("--title", metavar="TEXT", help="A heading.")
@click.option("--severity", type=click.Choice([s.value for s in Severity]), default="info", show_default=True)
@click.option("--idempotency-key", "key", metavar="TEXT", help="Sending it again with the same key does nothing.")
@json_option
@settings_options
def send(
    name: str,
    message: str,
    target: str,
    title: str | None,
    severity: str,
    key: str | None,
    as_json: bool,
    path: Path | None,
    url: str | None,
) -> None:
    """Send a notification through the integration NAME."""
    settings = load_settings(path, url, log_level="error")
    if not message.strip():
        fail("the message is empty", FAILED)
    notification = Notification(target=target, message=message, title=title, severity=Severity(severity))

    async def work() -> None:
        async with open_runtime(settings, serve=False) as runtime:
            runtime.registry.get(name)
            await runtime.registry.start()
            result = await runtime.registry.send_notification(name, notification, key or new_id())
        if as_json:
            output.as_json(
                {
                    "outcome": result.outcome.value,
                    "reference": result.reference,
                    "url": result.url,
                    "detail": result.detail,
                }
            )
        else:
            said = [result.outcome.value, result.reference, result.url, result.detail]
            click.echo(output.printable("  ".join(filter(None, said))))

    run(work())
