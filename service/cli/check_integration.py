"""`eventbus integrations doctor | drill | recover | app-manifest`: whether one integration works, and what to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import click
import yaml

from integrations.base import Finding, Preview, Recovered, Recovers, Registered
from integrations.errors import IntegrationError
from registry.account import Account
from registry.discovery import discover
from registry.settings import Settings
from service.cli import output
from service.cli.repair import confirm
from service.cli.shell import FAILED, USAGE, fail, json_option, load_settings, run, settings_options
from service.cli.times import SINCE
from service.drill import Drill, Step
from service.examination import examine, workers
from service.wiring import Runtime, open_runtime

SIGNS = {"ok": "✓", "warn": "!", "fail": "✗"}

T = TypeVar("T")


@click.command(
    epilog="""\b
Examples:
  eventbus integrations doctor github --config config/production.yaml
  eventbus integrations doctor slack --json"""
)
@click.argument("name")
@json_option
@settings_options
def doctor(name: str, as_json: bool, path: Path | None, url: str | None) -> None:
    """Look for what keeps the integration NAME from working.

    Its settings, secrets and rights, the service and its clock, the breaker, and what waits on the bus. Changes and
    sends nothing. Exit code 1 when something fails; warnings are 0.
    """
    settings = _settings_of(name, path, url)
    found = run(_with(settings, lambda runtime: examine(runtime, name)))
    if as_json:
        output.as_json({"integration": name, "ok": not _is_bad(found), "findings": [asdict(one) for one in found]})
    else:
        output.table(["check", "state", "found", "to do"], [_row(one) for one in found])
    if _is_bad(found):
        raise SystemExit(FAILED)


def _row(one: Finding) -> list[str]:
    return [one.about, f"{SIGNS[one.level]} {one.level}", one.what, one.fix or "-"]


def _is_bad(found: list[Finding]) -> bool:
    return any(one.level == "fail" for one in found)


@click.command(
    epilog="""\b
Examples:
  eventbus integrations drill slack --to '#deployments'
  eventbus integrations drill github --to acme/api#7 --yes --json"""
)
@click.argument("name")
@click.option("--to", "target", default="", metavar="TARGET", help="Channel, person, pull request or endpoint.")
@click.option("--here", is_flag=True, help="By this command alone, without a worker.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@json_option
@settings_options
def drill(
    name: str, target: str, here: bool, dry_run: bool, yes: bool, as_json: bool, path: Path | None, url: str | None
) -> None:
    """Send one notification marked [drill] through NAME, for real, the whole way.

    A worker takes it from the bus and sends it through gate and ledger to the service; from here it is looked for there
    and taken back: a comment or message is deleted, an incident resolved. It may notify or page people. Exit code 1
    when a step fails.
    """
    settings = _settings_of(name, path, url)

    async def work(runtime: Runtime) -> list[Step]:
        one = Drill(runtime, _ready(runtime, name), target, here=here)
        try:
            previews = one.preview()
        except IntegrationError as error:
            fail(error.detail, USAGE)
        if dry_run:
            _show_previews(previews, as_json=as_json)
            return []
        doing = "; ".join(preview.doing for preview in previews) or f"send a notification through {name}"
        confirm(f"A drill, for real: {output.printable(doing)}. Go on?", yes=yes)
        done = []
        async for step in one.steps():
            done.append(step)
            if not as_json:
                sign = SIGNS["ok" if step.is_done else "fail"]
                click.echo(f"{sign} {step.name:<11} {step.ms:>9,.1f} ms  {output.printable(step.said)}")
        return done

    async def counted(runtime: Runtime) -> tuple[list[Step], dict[str, int] | None]:
        return await work(runtime), await workers(settings.events.url.get_secret_value())

    done, serving = run(_with(settings, counted))
    if dry_run:
        return
    failed = [step.name for step in done if not step.is_done]
    served = None if serving is None else sum(n for group, n in serving.items() if group.partition(".")[0] == name)
    if as_json:
        steps = [asdict(step) for step in done]
        output.as_json({"integration": name, "ok": not failed, "failed": failed, "steps": steps, "workers": served})
    elif served == 0:
        click.echo(f"no worker serves {name}: events wait until one does", err=True)
    if failed:
        if not as_json:
            click.echo(f"the drill failed at: {', '.join(failed)}", err=True)
        raise SystemExit(FAILED)


def _show_previews(previews: list[Preview], *, as_json: bool) -> None:
    if as_json:
        output.as_json([asdict(preview) for preview in previews])
        return
    for preview in previews:
        click.echo(output.printable(f"{preview.doing}  {preview.request}"))
        for line in preview.body.splitlines():
            click.echo(f"  {output.printable(line)}")


@click.command(
    epilog="""\b
Examples:
  eventbus integrations recover github --since 24h
  eventbus integrations recover github --since 2026-01-12T09:00Z --json"""
)
@click.argument("name")
@click.option("--since", required=True, metavar="TIME", type=SINCE, help="24h for a day ago, or 2026-01-12T09:00Z.")
@json_option
@settings_options
def recover(name: str, since: datetime, as_json: bool, path: Path | None, url: str | None) -> None:
    """Have NAME's service send again the webhooks that never reached us.

    What was published before is not published again. GitHub keeps a record for three days. Workers do the same by the
    clock, see `recover_every`. Exit code 1 when the service refuses.
    """
    settings = _settings_of(name, path, url)

    async def work(runtime: Runtime) -> Recovered:
        adapter = _ready(runtime, name).adapter
        if not isinstance(adapter, Recovers):
            fail(f"{name} can't ask its service for lost webhooks; of ours, github can", USAGE)
        return await adapter.recover(since)

    done = run(_with(settings, work))
    if as_json:
        output.as_json(asdict(done))
    else:
        click.echo(output.printable(done.said))
    if done.left:
        click.echo("so many are asked for in one go: run it again in a minute", err=True)


@click.command(
    "app-manifest",
    epilog="""\b
Examples:
  eventbus integrations app-manifest slack --webhook https://bus.example.com/api/v1/webhooks/slack
  eventbus integrations app-manifest slack --config config/production.yaml --json""",
)
@click.argument("name")
@click.option("--webhook", default="", metavar="URL", help="The gateway's address for it; not needed in Socket Mode.")
@click.option("--app-name", default="eventbus", show_default=True, metavar="TEXT", help="What people call the app.")
@json_option
@settings_options
def app_manifest(name: str, webhook: str, app_name: str, as_json: bool, path: Path | None, url: str | None) -> None:
    """Print the manifest of the app that NAME needs at its service.

    For Slack: paste it at api.slack.com/apps > Create New App > From a manifest. It has the commands, scopes and
    addresses of the settings, and no secret.
    """
    section = _settings_of(name, path, url).integrations[name]
    entry = discover().adapters[section.adapter]
    adapter: object = entry.integration() if entry.integration is not None else None
    if not isinstance(adapter, Registered):
        fail(f"{name} needs no app manifest; of ours, slack does", USAGE)
    try:
        made = adapter.app_manifest(section.config, webhook, app_name)
    except ValueError as error:
        fail(str(error).replace("url:", "--webhook:").replace("name:", "--app-name:"), USAGE)
    if as_json:
        output.as_json(made)
    else:
        click.echo(yaml.safe_dump(made, sort_keys=False, allow_unicode=True), nl=False)


# -- which -------------------------------------------------------------------------------------------------------------


def _settings_of(name: str, path: Path | None, url: str | None) -> Settings:
    """The settings with this integration alone: the others need not be ready for it."""
    settings = load_settings(path, url, log_level="error")
    section = settings.integrations.get(name)
    if section is None:
        known = ", ".join(sorted(settings.integrations)) or "none"
        fail(f"no integration {name!r} is configured; configured: {known}", USAGE)
    if not section.enabled:
        fail(f"{name} is switched off: set enabled: true in its settings", USAGE)
    return settings.model_copy(update={"integrations": {name: section}})


async def _with(settings: Settings, work: Callable[[Runtime], Awaitable[T]]) -> T:
    async with open_runtime(settings, serve=False) as runtime:
        await runtime.registry.start()
        return await work(runtime)


def _ready(runtime: Runtime, name: str) -> Account:
    account = runtime.registry.get(name)
    if account.fault is not None:
        fail(f"{name} is not ready: {account.fault}; see: eventbus integrations doctor {name}", FAILED)
    return account


COMMANDS = (doctor, drill, recover, app_manifest)
