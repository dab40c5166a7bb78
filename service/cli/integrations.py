"""`eventbus integrations list | show | health | send`: what is installed, what it says of itself, how it is, and a
message by hand. Making a new one is `service.cli.scaffold`, trying it `service.cli.stand_in`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from eventbus.event import new_id
from integrations.base import Health, Integration, Notification, Severity
from integrations.testing.rules import MEANING, Tier
from registry.discovery import Adapter, discover
from registry.faults import did_you_mean
from registry.settings import Settings
from service import manifests
from service.cli import check_integration, output
from service.cli.scaffold import new
from service.cli.shell import FAILED, NOTHING, fail, json_option, load_settings, run, settings_options
from service.cli.stand_in import stand_in
from service.wiring import open_runtime

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
    rows = [
        _configured(name, section.adapter, section.enabled, found.adapters) for name, section in _sections(settings)
    ]
    used = {row["adapter"] for row in rows}
    rows += [_installed(entry) for entry in found.entries if entry.name not in used or entry.integration is None]
    if as_json:
        output.as_json(rows)
        return
    columns = ["name", "adapter", "from", "state", "tier", "effects", "makes", "takes"]
    output.table(columns, [[str(row[column]) for column in columns] for row in rows])


def _sections(settings: Settings) -> list[tuple[str, Any]]:
    return sorted(settings.integrations.items())


def _configured(name: str, adapter: str, enabled: bool, adapters: Mapping[str, Adapter]) -> dict[str, str]:
    return {**_facts(adapters.get(adapter)), "name": name, "adapter": adapter, "state": "on" if enabled else "off"}


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
    epilog="\b\nExamples:\n  eventbus integrations show slack\n  eventbus integrations show pagerduty --json"
)
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """What the adapter NAME says of itself: topics, settings, artifacts, effects, limits and rights."""
    found = discover().adapters
    entry = found.get(name)
    if entry is None:
        fail(f"no adapter {name!r} is installed{did_you_mean(name, found)}; known: {', '.join(sorted(found))}", NOTHING)
    if entry.integration is None:
        fail(f"the adapter {entry} can't be used: {entry.reason}", FAILED)
    facts = {"from": f"{entry.distribution} {entry.version}", **manifests.facts(entry.integration)}
    if as_json:
        output.as_json(facts)
        return
    for label, said in _said(entry.integration, facts):
        click.echo(output.printable(f"{label.ljust(LABEL)}{said}"))
    _fields("settings", facts["settings"])
    for kind, fields in facts["artifacts"].items():
        _fields(f"artifact {kind}", fields)


def _said(integration: type[Integration[Any]], facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What there is to say, a line each: label and text."""
    manifest = integration.manifest
    yield manifest.name, f"{manifest.title}, {facts['from']}"
    lines = {
        "takes": [" ".join(manifest.handles)],
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
