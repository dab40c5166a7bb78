"""`eventbus explain EVENT_ID`: what happened to an event, what did not, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from eventbus import EventBus
from eventbus.codec import to_cloudevent
from registry.explain import GroupStory, Line, Story, explain
from service.cli import output
from service.cli.repair import nothing, number
from service.cli.shell import json_option, load_settings, run, settings_options

GOOD = {"delivered", "duplicate", "done", "told"}
BAD = {"dead letter", "rejected", "unknown"}


@click.command(
    "explain",
    epilog="""\b
Examples:
  eventbus explain 0199b3f0-0000-7000-8000-000000000000
  eventbus explain 0199b3f0-0000-7000-8000-000000000000 --all --json""",
)
@click.argument("event_id", metavar="EVENT_ID")
@click.option("--all", "everything", is_flag=True, help="Show the groups that don't take such events, too.")
@json_option
@settings_options
def explain_(event_id: str, everything: bool, as_json: bool, path: Path | None, url: str | None) -> None:
    """Say what became of an event, and what comes next.

    Each group, each attempt with its answers, each route and why it was not taken.

    Routes are those of the file as it is now. Exit code 3 when nothing is known of the event, 5 without Redis.
    """
    settings = load_settings(path, url, log_level="error")

    async def work() -> Story:
        async with EventBus.open(settings.events.url.get_secret_value()) as bus:
            return await explain(bus, event_id, settings.routing)

    story = run(work())
    if not story.is_known:
        nothing(f"nothing is known of an event {event_id}: neither the log nor a trail nor a dead letter has it")
    if as_json:
        output.as_json(_document(story))
        return
    _show(story, everything=everything)


def _document(story: Story) -> dict[str, Any]:
    return {
        "event": None if story.event is None else to_cloudevent(story.event),
        "event_id": story.event_id,
        "sequence": story.sequence,
        "groups": [
            {
                "group": one.group,
                "patterns": list(one.patterns),
                "stand": one.stand,
                "detail": one.detail,
                "dead_letter": None if one.letter is None else one.letter.id,
                "attempts": list(one.lines),
            }
            for one in story.groups
        ],
        "routes": [
            {"route": one.name, "to": one.route.to, "taken": one.taken, "reason": one.reason} for one in story.routes
        ],
    }


def _show(story: Story, *, everything: bool) -> None:
    event = story.event
    if event is None:
        click.echo(f"{story.event_id}  the log does not hold it any more; what is remembered:")
    else:
        key = f"  {event.key}" if event.key else ""
        click.echo(click.style(output.printable(f"{event.topic}{key}"), bold=True))
        made = event.time.isoformat(timespec="milliseconds")
        click.echo(output.printable(f"{event.id}  number {story.sequence:,}  {made}  from {event.source}"))
    shown = [one for one in story.groups if everything or one.stand != "not for it"]
    for one in shown:
        _show_group(one)
    hidden = len(story.groups) - len(shown)
    if story.routes:
        click.echo("\nroutes")
        for decision in story.routes:
            said = "taken" if decision.taken else output.printable(decision.reason)
            click.echo(f"  {_sign(decision.taken)} {decision.name} to {decision.route.to}: {said}")
    if hidden:
        click.echo(f"\n{number(hidden, 'group')} not shown, as no pattern of theirs fits; see --all")


def _show_group(one: GroupStory) -> None:
    mark = "✓" if one.stand in GOOD else "✗" if one.stand in BAD else "-"
    color = "green" if one.stand in GOOD else "red" if one.stand in BAD else None
    head = click.style(f"{mark} {one.group}  {one.stand}", fg=color)
    click.echo(f"\n{head}" + (f"  {output.printable(one.detail)}" if one.detail else ""))
    for line in one.lines:
        _show_line(line)


def _show_line(line: Line) -> None:
    number_, at = line.get("attempt"), str(line.get("at", ""))[11:23]
    facts = [at, f"attempt {number_}" if number_ else "", str(line.get("outcome", ""))]
    said = line.get("detail") or line.get("error") or ""
    if line.get("latency_ms") is not None:
        facts.append(f"{line['latency_ms']} ms")
    click.echo(output.printable("    " + "  ".join(fact for fact in facts if fact) + (f"  {said}" if said else "")))
    if line.get("until"):
        click.echo(f"      {line['times']} times until {str(line['until'])[11:23]}")
    if line.get("url"):
        click.echo(output.printable(f"      {line['url']}"))
    requests = line.get("requests")
    for request in requests if isinstance(requests, list) else []:
        if isinstance(request, dict):
            said = f"      {request.get('request')}  {request.get('answer')}  {request.get('ms')} ms"
            click.echo(output.printable(said))


def _sign(good: bool) -> str:
    return "✓" if good else "-"
