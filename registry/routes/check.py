"""What is wrong with routes that one route does not show by itself: against the integrations, topics and windows.

Every route is tried with the example of every topic it is for, so that `eventbus config check` finds at the desk what
would go wrong at night. Findings carry the place in the file; `settings` turns it into a line.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.pattern import common, is_wildcard, matches_any
from eventbus.payload import Payload
from integrations.base import Manifest, Target
from registry.faults import Loc, did_you_mean
from registry.routes.decide import Decision
from registry.routes.filters import Unknown
from registry.routes.model import Inhibition, Muted, Route, Routing
from registry.routes.render import RenderError, render
from registry.routes.scope import ENVELOPE, names_for, names_of
from registry.routes.template import Condition, Template

SIMILAR = 0.85
"""How like a topic of the catalogue another word has to be, by difflib's ratio, to be taken for a slip."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or with `is_warning` only odd. `path`: its place in the settings."""

    path: Loc
    message: str
    is_warning: bool = False


def check(
    routing: Routing,
    manifests: Mapping[str, Manifest],
    disabled: Collection[str] = (),
    targets: Mapping[str, Sequence[Target]] | None = None,
) -> list[Finding]:
    """Every finding, each once.

    manifests  those of the enabled integrations, by their names in the settings
    targets    of those that name their own
    """
    found: dict[Finding, None] = {}
    for name, route in routing.routes.items():
        named = (targets or {}).get(route.to)
        for finding in _findings(name, route, routing, manifests, disabled, named):
            path = ("routes", name, *finding.path)
            found[Finding(path, finding.message, finding.is_warning)] = None
    for name, inhibition in routing.inhibitions.items():
        for part, of in ((), inhibition), (("mutes",), inhibition.mutes):
            for finding in [*_topics(of), *_fields(of)]:
                found[replace(finding, path=("inhibitions", name, *part, *finding.path))] = None
    return list(found)


def _findings(
    name: str,
    route: Route,
    routing: Routing,
    manifests: Mapping[str, Manifest],
    disabled: Collection[str],
    targets: Sequence[Target] | None,
) -> Iterator[Finding]:
    manifest = manifests.get(route.to)
    if route.to in disabled:
        yield Finding(("to",), f"{route.to} is disabled, so nothing goes this way", is_warning=True)
    elif manifest is None:
        known = sorted(manifests)
        there_is = ", ".join(known) or "none"
        yield Finding(("to",), f"no integration {route.to!r}{did_you_mean(route.to, known)}; configured: {there_is}")
    else:
        yield from _offered(route, manifest, targets)
    yield from _windows(route, routing)
    yield from _topics(route)
    yield from _fields(route)
    yield from _key(route)
    yield from _tried(name, route, routing, manifest)


def _offered(route: Route, manifest: Manifest, targets: Sequence[Target] | None) -> Iterator[Finding]:
    """What the integration can make of it."""
    if targets is not None and route.enabled and not any(one.is_whole for one in targets):
        yield from _reached(route, targets)
    if route.text is not None:
        kind, offered, at = route.notification or "message", manifest.notifications, "notification"
    elif route.artifact is not None:
        kind, offered, at = route.artifact, tuple(manifest.artifacts), "artifact"
    else:
        yield from _laid_out(route, manifest, targets)
        return
    if kind not in offered:
        makes = ", ".join(offered) or "none"
        yield Finding((at,), f"{manifest.title} makes no {at} {kind!r}{did_you_mean(kind, offered)}; it makes: {makes}")


def _laid_out(route: Route, manifest: Manifest, targets: Sequence[Target] | None) -> Iterator[Finding]:
    """Topics that the adapter has nothing to say of by itself. One that names its targets takes what they say."""
    if targets is None:
        taken, whose = list(manifest.handles), f"{manifest.title} has no layout of its own"
    elif any(one.is_whole for one in targets):
        taken = [pattern for one in targets for pattern in one.topics]
        whose = f"nothing in the settings of {route.to} asks"
    else:
        return  # what they don't take does not reach them, which is said of them
    other = [*(["text"] if manifest.notifications else []), *(["an artifact"] if manifest.artifacts else [])]
    do = f"give {' or '.join(other)}" if other else "nothing comes of it"
    for n, topic in enumerate(route.topics):
        if not is_wildcard(topic) and not matches_any(taken, topic):
            yield Finding(("topics", n), f"{whose} for {topic}: {do}", is_warning=True)


def _reached(route: Route, targets: Sequence[Target]) -> Iterator[Finding]:
    """Targets that there are not, and topics that nobody is subscribed to: a route chooses among the events that a
    target takes, and adds none."""
    literal = None if route.target is None or route.target.references else route.target.render({}).text.strip()
    meant = [one for one in targets if not literal or one.name == literal]
    if literal and not meant:
        known = [one.name for one in targets]
        there_is = f"{did_you_mean(literal, known)}; it has: {', '.join(known) or 'none'}"
        yield Finding(("target",), f"{route.to} has no target {literal!r}{there_is}")
        return
    whose = f"the target {literal} of {route.to}" if literal else f"any target of {route.to}"
    for n, topic in enumerate(route.topics):
        if not any(common(topic, taken) for one in meant for taken in one.topics):
            text = f"{topic} is not among the topics of {whose}, so nothing goes this way: add it there"
            yield Finding(("topics", n), text, is_warning=True)


def _windows(route: Route, routing: Routing) -> Iterator[Finding]:
    for key in ("active", "mute"):
        for n, window in enumerate(getattr(route, key) or ()):
            if window not in routing.windows:
                known = sorted(routing.windows)
                there_is = ", ".join(known) or "none"
                text = f"there is no window {window!r}{did_you_mean(window, known)}; time_intervals has: {there_is}"
                yield Finding((key, n), text)


def _topics(route: Route | Inhibition | Muted) -> Iterator[Finding]:
    known = [cls.__topic__ for cls in catalog]
    for n, topic in enumerate(route.topics):
        if is_wildcard(topic) or catalog.find(topic) is not None:
            continue
        if close := difflib.get_close_matches(topic, known, n=1, cutoff=SIMILAR):
            yield Finding(("topics", n), f"no such topic is known; did you mean {close[0]}?", is_warning=True)


def _fields(route: Route | Inhibition | Muted) -> Iterator[Finding]:
    """Fields that none of the route's topics has. A topic outside the catalogue may have any."""
    classes = [cls for _, cls in _classes(route)]
    all_known = all(is_wildcard(topic) or catalog.find(topic) is not None for topic in route.topics)
    fields = {name for cls in classes for name in cls.model_fields} if classes and all_known else None
    for at, template in route.templates():
        for path, line in _distinct(template).items():
            known = {"data": fields, "event": ENVELOPE}.get(path[0])
            if known is None or len(path) < 2 or path[1] in known:
                continue
            where = f"line {line}: " if "\n" in template.source.rstrip("\n") else ""
            of = " of ".join(filter(None, ("no field", "" if path[0] == "event" else ", ".join(route.topics))))
            text = f"{where}there is no {'.'.join(path[:2])}{did_you_mean(path[1], known)}: it is {of}"
            yield Finding(at, text)


def _distinct(template: Template | Condition) -> dict[tuple[str, ...], int]:
    """The paths a template reads, each with the first of its lines."""
    return {reference.path: reference.line for reference in reversed(template.references)}


def _key(route: Route) -> Iterator[Finding]:
    if route.dedup_key is None:
        return
    times = {"timestamp"} | {
        name for _, cls in _classes(route) for name, one in cls.model_fields.items() if "date" in str(one.annotation)
    }
    for path in _distinct(route.dedup_key):
        if path[:2] in (("event", "time"), ("event", "id")) or (
            path[0] == "data" and path[-1] in times | {"timestamp"}
        ):
            text = f"{'.'.join(path)} differs for every event: no later event will find what an earlier one made"
            yield Finding(("dedup_key",), text, is_warning=True)


# -- examples --------------------------------------------------------------------------------------------------------


def _classes(route: Route | Inhibition | Muted) -> Iterator[tuple[str, type[Payload]]]:
    """The payload classes of its topics, each with one of the topics it is for."""
    seen: set[type[Payload]] = set()
    for pattern in route.topics:
        for cls in catalog:
            both = common(pattern, cls.__topic__)
            topic = both and _one_of(both)
            if topic is not None and cls not in seen and catalog.find(topic) is cls:
                seen.add(cls)
                yield topic, cls


def _one_of(pattern: str) -> str:
    """A topic that it selects."""
    return ".".join("any" if segment in ("*", ">") else segment for segment in pattern.split("."))


def _tried(name: str, route: Route, routing: Routing, manifest: Manifest | None) -> Iterator[Finding]:
    for topic, cls in _classes(route):
        example = cls.example()
        if example is not None:
            event = catalog.event(topic, example)
            for finding in _tried_with(event, Decision(name, route), routing, manifest):
                yield Finding(finding.path, f"with the example of {topic}: {finding.message}", finding.is_warning)


def _tried_with(
    event: Event[Any], decision: Decision, routing: Routing, manifest: Manifest | None
) -> Iterator[Finding]:
    route = decision.route
    names, _ = names_for(route, names_of(event, routing))
    if route.when is not None:
        value = route.when.value(names)
        if isinstance(value, Unknown) and value.is_mistake:
            yield Finding(("when",), value.reason)
        if isinstance(value, Unknown) or not value:
            return
    try:
        rendered = render(event, decision, routing, None if manifest is None else manifest.artifacts)
    except RenderError as error:
        if manifest is not None and route.artifact in manifest.artifacts:
            yield Finding(("content",), str(error).partition(": ")[2])
        return
    for note in rendered.notes:
        if note.is_mistake:
            field, _, text = note.text.partition(": ")
            yield Finding(tuple(field.split(" ")[0].split(".")), text)
