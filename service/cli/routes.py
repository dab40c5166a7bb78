"""`eventbus routes list | test | diff`: which event goes where, tried out without sending anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr

from eventbus import Event, EventBus, InvalidEvent, catalog
from eventbus.event import new_id
from eventbus.pattern import matches_any
from integrations.base import Artifact, Delivery, Integration, Notification, Preview, What
from integrations.errors import IntegrationError
from registry.account import Account, targets_of, topics_taken, values_of
from registry.discovery import discover
from registry.registry import Registry
from registry.routes.decide import Decision, decide
from registry.routes.diff import Change, Message, Plan, compare
from registry.routes.model import Route, Routing
from registry.routes.render import RenderError, render
from registry.routes.scope import names_on
from registry.settings import Events, Settings
from service.cli import output
from service.cli.repair import moment, number
from service.cli.shell import FAILED, USAGE, fail, json_object, json_option, load_settings, run, settings_options
from service.cli.times import SINCE, TIME
from service.wiring import open_runtime

SIGNS = {"appear": "+", "vanish": "-", "change": "~"}
NOWHERE = Events(url=SecretStr("memory://"))
"""A bus for programs that are only tried out: nothing is read from it and nothing stays."""


@click.group()
def routes() -> None:
    """Which event goes where. List the routes, try one event, compare two files."""


# -- list ------------------------------------------------------------------------------------------------------------


@routes.command("list", epilog="\b\nExample:\n  eventbus routes list --config config/production.yaml")
@json_option
@settings_options
def list_(as_json: bool, path: Path | None, url: str | None) -> None:
    """The routes of the file, in the order they are considered."""
    settings = load_settings(path, url, log_level="error")
    if as_json:
        output.as_json([{"name": name, **_set(route)} for name, route in settings.routes.items()])
        return
    if not settings.routes:
        click.echo("no routes: every integration takes what its adapter handles, in its own layout")
        return
    columns = ["route", "topics", "when", "to", "makes", "state"]
    output.table(columns, [_row(name, route) for name, route in settings.routes.items()])


def _set(route: Route) -> dict[str, Any]:
    return route.model_dump(mode="json", exclude_unset=True, exclude={"content"}) | (
        {"content": {key: str(getattr(of, "source", of)) for key, of in route.content.items()}} if route.content else {}
    )


def _row(name: str, route: Route) -> list[str]:
    when = "-" if route.when is None else " ".join(route.when.source.split())
    return [name, " ".join(route.topics), when, route.to, _makes(route), _state(route)]


def _makes(route: Route) -> str:
    if route.text is not None:
        return route.notification or "message"
    return route.artifact or "its own layout"


def _state(route: Route) -> str:
    if not route.enabled:
        return "off"
    said = [word for word, holds in (("dry run", route.dry_run), ("stops", route.stop)) if holds]
    if route.group is not None:
        said.append(" ".join(["groups", *(["by"] if route.group.by else []), *(one.source for one in route.group.by)]))
    said += [f"{key}: {' '.join(getattr(route, key))}" for key in ("active", "mute") if getattr(route, key)]
    return ", ".join(said) or "on"


# -- test ------------------------------------------------------------------------------------------------------------


@routes.command(
    epilog="""\b
Examples:
  eventbus routes test task.failed --config config/production.yaml
  eventbus routes test migration.failed '{"migration": "add_email", "error": "timeout"}' --config my.yaml"""
)
@click.argument("topic")
@click.argument("data", required=False, metavar="[JSON | -]")
@click.option("--at", metavar="TIME", type=TIME, help="As if it were this time, such as 2026-01-12T03:00+01:00.")
@json_option
@settings_options
def test(topic: str, data: str | None, at: datetime | None, as_json: bool, path: Path | None, url: str | None) -> None:
    """Show where an event would go: each route and why not, and the requests that would leave.

    Nothing is sent, published or stored. Without data the topic's example is taken. Exit code 1 when a route can't be
    rendered.
    """
    settings = load_settings(path, url, log_level="error").model_copy(update={"events": NOWHERE})
    event = _event(topic, data)

    async def work() -> list[dict[str, Any]]:
        async with open_runtime(settings, serve=False) as runtime:
            await runtime.registry.start()
            return list(_tried(event, settings, runtime.registry, at or datetime.now(UTC)))

    tried = run(work())
    if as_json:
        output.as_json({"event": event.model_dump(mode="json"), "routes": tried})
    elif not tried:
        click.echo(_nobody_takes(topic, settings))
    else:
        _show_tried(tried)
    if any(one["fault"] for one in tried):
        raise SystemExit(FAILED)


def _nobody_takes(topic: str, settings: Settings) -> str:
    names = [name for name, one in settings.integrations.items() if one.enabled]
    if not names:
        return f"nothing takes {topic}: no integration is enabled; eventbus integrations list shows what there is"
    adapters, by_settings = discover().adapters, list[str]()
    for name in names:
        adapter = adapters[settings.integrations[name].adapter].integration
        targets = None if adapter is None else targets_of(adapter, settings.integrations[name].config)
        if targets is not None and not any(matches_any(one.topics, topic) for one in targets):
            by_settings.append(name)
    by_topics = [name for name in names if name not in by_settings]
    ways = [f"add it to the topics of {' or '.join(by_topics)}"] if by_topics else []
    ways += [f"let the settings of {' or '.join(by_settings)} ask for it"] if by_settings else []
    said = f"nothing takes {topic}: no route names it, and by itself none of these does: {', '.join(names)}"
    return f"{said}; {', or '.join(ways)}"


def _event(topic: str, data: str | None) -> Event[Any]:
    cls = catalog.find(topic)
    try:
        if data is None and cls is not None and (example := cls.example()) is not None:
            return catalog.event(topic, example)
        return catalog.event(topic, json_object(data or "{}"))
    except InvalidEvent as error:
        fail(f"refused: {error}", USAGE)


def _tried(event: Event[Any], settings: Settings, registry: Registry, now: datetime) -> Iterator[dict[str, Any]]:
    """Each route, then each integration that acts by itself."""
    accounts = {account.name: account for account in registry}
    for decision in decide(event, settings.routing, now):
        yield _tried_route(event, decision, settings, accounts.get(decision.route.to))
    for account in accounts.values():
        if matches_any(account.takes, event.topic) and not settings.routing.takes_over(account.name, event.topic):
            yield _result(
                "", account.name, **_previewed(account, event, event.key or "", event.topic, settings.routing)
            )


def _tried_route(event: Event[Any], decision: Decision, settings: Settings, account: Account | None) -> dict[str, Any]:
    name, route = decision.name, decision.route
    if not decision.taken:
        return _result(name, route.to, reason=decision.reason)
    if account is None:
        return _result(name, route.to, reason=f"integration {route.to} is disabled")
    try:
        made = render(event, decision, settings.routing, account.adapter.manifest.artifacts)
    except RenderError as error:
        return _result(name, route.to, fault=str(error))
    shown = _previewed(account, made.what, made.thread, event.topic, settings.routing)
    notes = [*(note.text for note in made.notes), *shown.pop("notes", [])]
    group = None
    if route.group is not None:
        group = values_of(route.group, names_on(name, route, event, settings.routing))
        notes.insert(0, f"told of with its group after {route.group.wait:g} s; this is how it looks alone")
    return _result(name, route.to, dry_run=route.dry_run, notes=notes, group=group, **shown)


def _result(route: str, to: str, *, reason: str = "", **more: Any) -> dict[str, Any]:
    one = {"route": route or None, "to": to, "taken": not reason, "reason": reason, "fault": "", "dry_run": False}
    return {**one, "group": None, "notes": [], "thread": "", "what": None, "requests": [], **more}


def _previewed(account: Account, what: What, thread: str, topic: str, routing: Routing) -> dict[str, Any]:
    """What it would send, to each target that takes the topic."""
    shown = {"thread": thread, "what": _what(what)}
    if account.fault:
        return {**shown, "fault": f"not ready: {account.fault}"}
    if type(account.adapter).preview is Integration.preview:
        return {**shown, "notes": [f"{account.name} offers no preview of its requests"]}
    names = [target.name for _, target in account.targets(routing) if matches_any(target.topics, topic)]
    meant = {name: addressed for name in names if (addressed := account.addressed(what, name)) is not None}
    if not meant:
        return {**shown, "reason": f"no target of {account.name} that takes {topic} is meant"}
    found: list[Preview] = []
    try:
        for name, one in meant.items():
            found += account.adapter.preview(one, Delivery(key=new_id(), target=name, thread=thread))
    except IntegrationError as error:
        return {**shown, "fault": error.detail}
    return {**shown, "requests": [{"doing": one.doing, "request": one.request, "body": one.body} for one in found]}


def _what(what: What) -> dict[str, Any] | None:
    return what.model_dump(mode="json", exclude_defaults=True) if isinstance(what, Notification | Artifact) else None


def _show_tried(tried: list[dict[str, Any]]) -> None:
    output.table(["route", "to", "what happens"], [[one["route"] or "-", one["to"], _verdict(one)] for one in tried])
    for one in tried:
        if not one["taken"]:
            continue
        click.echo()
        thread = f", thread {one['thread']}" if one["thread"] else ""
        click.echo(output.printable(f"{_called(one)} to {one['to']}{thread}:"))
        for note in one["notes"]:
            click.echo(f"  note: {output.printable(note)}")
        for request in one["requests"] or _as_rendered(one["what"]):
            _show_request(request)


def _as_rendered(what: dict[str, Any] | None) -> list[dict[str, str]]:
    """In the place of requests that can't be shown: what the integration is given."""
    body = json.dumps(what, indent=2, ensure_ascii=False)
    return [] if what is None else [{"doing": "what it is given", "request": "", "body": body}]


def _called(one: dict[str, Any]) -> str:
    return f"route {one['route']}" if one["route"] else "own layout"


def _verdict(one: dict[str, Any]) -> str:
    if one["fault"]:
        return f"fails: {one['fault']}"
    if one["reason"]:
        return f"no: {one['reason']}"
    doing = ", ".join(request["doing"] for request in one["requests"])
    verdict = "dry run" if one["dry_run"] else "taken" if one["group"] is None else "grouped"
    values = ", ".join(f"{name}={value}" for name, value in (one["group"] or {}).items())
    return verdict + (f" {values}" if values else "") + (f": {doing}" if doing else "")


def _show_request(request: dict[str, str]) -> None:
    click.echo(f"  {output.printable(request['doing'])}")
    for line in [request["request"], *request["body"].splitlines()]:
        if line:
            click.echo(f"    {output.printable(line)}")


# -- diff ------------------------------------------------------------------------------------------------------------


@routes.command(
    epilog="""\b
Examples:
  eventbus routes diff new.yaml --config config/production.yaml
  eventbus routes diff new.yaml --since 7d --json --config config/production.yaml"""
)
@click.argument("new", metavar="NEW_CONFIG", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--since", metavar="TIME", type=SINCE, default="24h", show_default=True, help="24h for a day ago, or a time."
)
@json_option
@settings_options
def diff(new: Path, since: datetime, as_json: bool, path: Path | None, url: str | None) -> None:
    """Compare: what NEW_CONFIG would have sent for the events in the log, and what the present file would have.

    Nothing is sent. Each event counts at its own time, as far back as the log reaches. Exit code 5 without Redis.
    """
    now, then = load_settings(path, url, log_level="error"), load_settings(new, None, log_level="error")
    plans = _plan(now), _plan(then)

    async def work() -> tuple[int, list[Change]]:
        looked, found = 0, list[Change]()
        async with EventBus.open(now.events.url.get_secret_value()) as bus:
            async for event in bus.past(since=since):
                looked += 1
                found += compare([event], *plans)
        return looked, found

    looked, found = run(work())
    if as_json:
        output.as_json({"since": since.isoformat(), "looked_at": looked, "changes": [_change(one) for one in found]})
        return
    for change in found:
        _show_change(change)
    counts = {kind: sum(one.kind == kind for one in found) for kind in SIGNS}
    said = ", ".join(f"{number(count, 'message')} would {kind}" for kind, count in counts.items() if count)
    click.echo(f"{number(looked, 'event')} looked at: {said or 'every message stays as it is'}")


def _plan(settings: Settings) -> Plan:
    adapters, accounts = discover().adapters, {}
    for name, section in settings.integrations.items():
        adapter = adapters[section.adapter].integration if section.enabled else None
        if adapter is not None:
            accounts[name] = topics_taken(adapter.manifest, targets_of(adapter, section.config), section.topics)
    return Plan(settings.routing, accounts)


def _change(change: Change) -> dict[str, Any]:
    sides = {"before": change.before, "after": change.after}
    event = change.event
    return {
        "kind": change.kind,
        "event": {"id": event.id, "topic": event.topic, "time": event.time.isoformat()},
        **{name: None if message is None else _sent(message) for name, message in sides.items()},
    }


def _sent(message: Message) -> dict[str, str | None]:
    return {
        "route": message.route or None,
        "to": message.to,
        "kind": message.kind,
        "target": message.target,
        "thread": message.thread,
        "text": message.text,
    }


def _show_change(change: Change) -> None:
    event, sides = change.event, [side for side in (change.before, change.after) if side is not None]
    one = sides[-1]
    by = f"route {one.route}" if one.route else "its own layout"
    click.echo(
        output.printable(
            f"{SIGNS[change.kind]} {moment(event.time)}  {event.topic}  {event.id}  {one.kind} to {one.to}, {by}"
        )
    )
    for mark, message, other in (("-", change.before, change.after), ("+", change.after, change.before)):
        if message is not None:
            known = set() if other is None else set(_lines(other))
            for line in _lines(message):
                if line not in known:
                    click.echo(f"    {mark} {output.printable(line)}")


def _lines(message: Message) -> list[str]:
    facts = [f"target: {message.target}"] if message.target else []
    facts += [f"thread: {message.thread}"] if message.thread else []
    return [*facts, *(line for line in message.text.splitlines() if line.strip() not in ("{", "}"))]
