"""What a route may say: its keys, their bounds and their faults.

Data only. That a route fits the configured accounts and the catalogue of topics is found by `check`; the faults here
are those that one route shows by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from eventbus.errors import Misconfigured
from eventbus.pattern import check_pattern, matches_any
from integrations.base import Severity
from registry.routes.template import Condition, GroupTemplate, MuteCondition, Template
from registry.routes.windows import TimeInterval

DEFAULT = "default"
WORDS: Mapping[str, Severity] = {
    **{severity.value: severity for severity in Severity},
    "high": Severity.ERROR,
    "medium": Severity.WARNING,
    "low": Severity.INFO,
}
"""What may be written for a severity: PagerDuty's four words, and three that people use for them."""


def _pattern(text: str) -> str:
    try:
        return check_pattern(text)
    except Misconfigured as error:
        raise ValueError(str(error).removeprefix(f"{text[:80]!r} ")) from None


def _severity(word: object) -> object:
    if isinstance(word, str) and word.lower() not in WORDS:
        raise ValueError(f"is no severity; there is: {', '.join(WORDS)}")
    return WORDS[word.lower()] if isinstance(word, str) else word


def _content(value: object) -> object:
    """A value of an artifact's content with every text in it made a template."""
    if isinstance(value, str):
        return Template.of(value)
    if isinstance(value, Mapping):
        return {name: _content(of) for name, of in value.items()}
    return [_content(of) for of in value] if isinstance(value, list) else value


def _kind_of_severity(value: object) -> str:
    return "table" if isinstance(value, Mapping | SeverityTable) else "template"


Pattern = Annotated[str, AfterValidator(_pattern)]
Level = Annotated[Severity, BeforeValidator(_severity)]
Content = Annotated[Any, BeforeValidator(_content)]
Name = Annotated[str, Field(min_length=1, max_length=100)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SeverityTable(_Section):
    """A severity for each value of an expression."""

    by: Condition = Field(description="An expression, such as data.environment")
    map: Mapping[str, Level] = Field(min_length=1, description="The severity of each value")
    default: Level = Field(default=Severity.WARNING, description="Of every other value, and where there is none")


Rule = Annotated[
    Annotated[Template, Tag("template")] | Annotated[SeverityTable, Tag("table")], Discriminator(_kind_of_severity)
]


class RouteAction(_Section):
    """A button of a notification; pressed in Slack it becomes the event slack.action.<action_id>."""

    text: Template = Field(description="What stands on it; cut at 75 characters")
    action_id: str = Field(
        min_length=1, max_length=150, pattern=r"^[A-Za-z0-9_-]+$", description="Names the event it becomes"
    )
    value: Template = Field(default=Template.of(""), description="What it carries; cut at 2,000 characters")
    style: Literal["primary", "danger"] | None = Field(default=None, description="How it looks")


Seconds = Annotated[float, Field(ge=0, le=366 * 86_400, allow_inf_nan=False)]


class Grouping(_Section):
    """When alerts of a route are told of together. Times and defaults are Alertmanager's."""

    by: tuple[Condition, ...] = Field(
        default=(), max_length=10, description="Expressions: alerts with equal values are told of together"
    )
    wait: Seconds = Field(default=30, description="Seconds from a group's first alert to its first message")
    interval: Seconds = Field(
        default=300, gt=0, description="Seconds from one message of a group to the next, if there is something new"
    )
    repeat: Seconds = Field(
        default=14_400, gt=0, description="Seconds after which what still fires is told again; a multiple of interval"
    )
    lasts: Seconds | None = Field(
        default=None, gt=0, description="Seconds after its last event at which an alert counts as resolved"
    )
    send_resolved: bool = Field(default=True, description="Whether it is told that alerts are resolved")
    title: GroupTemplate | None = Field(default=None, description="The title for several alerts; default: composed")
    text: GroupTemplate | None = Field(default=None, description="The text for several alerts; default: one line each")


class Route(_Section):
    """Which events go to which integration, and in which words. Without words: in the integration's own."""

    topics: tuple[Pattern, ...] = Field(min_length=1, description="Patterns of the topics it is for")
    when: Condition | None = Field(default=None, description="A condition that has to hold as well")
    to: Name = Field(description="Name of the integration it goes to")
    enabled: bool = Field(default=True, description="Whether it is considered at all")
    dry_run: bool = Field(default=False, description="Render and record, but send nothing")
    stop: bool = Field(default=False, description="Routes below are not considered for what this one matches")
    active: tuple[Name, ...] | None = Field(
        default=None, min_length=1, description="Names of time_intervals outside of which it is mute"
    )
    mute: tuple[Name, ...] | None = Field(
        default=None, min_length=1, description="Names of time_intervals within which it is mute"
    )
    dedup_key: Template | None = Field(
        default=None, description="Names what it is about: events of one key share a message; default: the ordering key"
    )
    resolves: Condition | None = Field(
        default=None, description="A condition: such an event ends what an earlier event of its key began"
    )
    group: Grouping | None = Field(default=None, description="Tell of several events in one message; see Less noise")
    severity: Rule | None = Field(default=None, description="A word or template, or a table; default: info")
    notification: Name | None = Field(default=None, description="Kind of the notification; default: message")
    text: Template | None = Field(default=None, description="The notification's text; makes the route a notification")
    title: Template | None = Field(default=None, description="Its title")
    fields: Mapping[str, Template] = Field(default_factory=dict, description="Short facts, by label; empty ones go")
    target: Template | None = Field(
        default=None, description="Channel, person or address; default: the integration's; needs text"
    )
    url: Template | None = Field(default=None, description="Where to read more, such as {{ runbook }}")
    actions: tuple[RouteAction, ...] = Field(default=(), max_length=25, description="Its buttons")
    artifact: Name | None = Field(default=None, description="Makes the route an artifact of this type, such as issue")
    content: Mapping[str, Content] = Field(default_factory=dict, description="What the artifact holds, by name")

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        given = self.model_fields_set
        if self.artifact is not None and self.text is not None:
            raise ValueError("is a notification (text) or an artifact (artifact), not both: make it two routes")
        alone = sorted(given & {"notification", "title", "fields", "target", "url", "actions", "group"})
        if alone and self.text is None:
            raise ValueError(f"{alone[0]} belongs to a notification: add text")
        if self.artifact is not None and not self.content:
            raise ValueError("artifact needs content")
        if "content" in given and self.artifact is None:
            raise ValueError("content belongs to an artifact: add artifact, such as artifact: issue")
        return self

    @model_validator(mode="after")
    def _telling(self) -> Self:
        key = self.dedup_key
        if key is not None and not key.reads("event", "data"):
            raise ValueError("dedup_key is the same for every event: name what differs, such as {{ data.task_id }}")
        if isinstance(self.severity, Template) and self.severity.reads("severity"):
            raise ValueError("severity can't be made of itself")
        return self

    def matches(self, topic: str) -> bool:
        """Whether its patterns select the topic."""
        return matches_any(self.topics, topic)

    @property
    def has_ends(self) -> bool:
        """Whether what an event begins goes on until it is resolved; else each event is told of once."""
        return self.resolves is not None or (self.group is not None and self.group.lasts is not None)

    def templates(self) -> Iterator[tuple[tuple[str | int, ...], Template | Condition]]:
        """Every template and condition of it, with its place in the route."""
        for name in ("when", "dedup_key", "resolves", "title", "text", "target", "url"):
            if (found := getattr(self, name)) is not None:
                yield (name,), found
        for n, expression in enumerate(self.group.by if self.group else ()):
            yield ("group", "by", n), expression
        if isinstance(self.severity, Template):
            yield ("severity",), self.severity
        elif self.severity is not None:
            yield ("severity", "by"), self.severity.by
        for label, template in self.fields.items():
            yield ("fields", label), template
        for n, action in enumerate(self.actions):
            yield ("actions", n, "text"), action.text
            yield ("actions", n, "value"), action.value
        yield from _templates_in(self.content, ("content",))


def _templates_in(value: object, at: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Template]]:
    if isinstance(value, Template):
        yield at, value
    elif isinstance(value, Mapping | list):
        for step, of in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _templates_in(of, (*at, step))


class Muted(_Section):
    """What an inhibition keeps quiet."""

    topics: tuple[Pattern, ...] = Field(min_length=1, description="Patterns of the topics that are not told of")
    when: MuteCondition | None = Field(default=None, description="A condition that has to hold as well")

    def matches(self, topic: str) -> bool:
        """Whether its patterns select the topic."""
        return matches_any(self.topics, topic)

    def templates(self) -> Iterator[tuple[tuple[str | int, ...], Condition]]:
        """Its condition, with its place."""
        if self.when is not None:
            yield ("when",), self.when


class Inhibition(_Section):
    """While one alert fires, others that follow from it are not told of."""

    topics: tuple[Pattern, ...] = Field(min_length=1, description="Patterns of the topics that begin it")
    when: Condition | None = Field(default=None, description="A condition that has to hold as well")
    resolves: Condition | None = Field(default=None, description="A condition: such an event ends it")
    lasts: Seconds = Field(default=3600, gt=0, description="Seconds after its last event at which it ends by itself")
    mutes: Muted = Field(description="What is not told of meanwhile")
    equal: tuple[Condition, ...] = Field(
        default=(), max_length=10, description="Expressions that have to come to the same for both"
    )

    def matches(self, topic: str) -> bool:
        """Whether its patterns select the topic."""
        return matches_any(self.topics, topic)

    def templates(self) -> Iterator[tuple[tuple[str | int, ...], Condition]]:
        """Its conditions about the events that begin it, with their places."""
        for name in ("when", "resolves"):
            if (found := getattr(self, name)) is not None:
                yield (name,), found


Inhibitions = Mapping[Name, Inhibition]

Runbook = Annotated[str, Field(pattern=r"^https?://", max_length=2000)]
Runbooks = Mapping[str, Mapping[str, Runbook]]
"""The page to open, by environment and type of error; `default` stands for any other."""
Windows = Mapping[str, Annotated[tuple[TimeInterval, ...], Field(min_length=1)]]
"""Lists of intervals, by name."""


@dataclass(frozen=True)
class Routing:
    """Everything that decides where an event goes.

    routes       by name, in the order of the file, which is the order they are considered in
    runbooks     what `runbook` stands for in templates
    windows      what the routes' active and mute name
    inhibitions  which events are not told of while others fire
    """

    routes: Mapping[str, Route] = field(default_factory=dict)
    runbooks: Runbooks = field(default_factory=dict)
    windows: Mapping[str, tuple[TimeInterval, ...]] = field(default_factory=dict)
    inhibitions: Inhibitions = field(default_factory=dict)

    def takes_over(self, account: str, topic: str) -> bool:
        """Whether routes decide about this topic for this integration, instead of its adapter alone."""
        return any(route.to == account and route.enabled and route.matches(topic) for route in self.routes.values())

    def topics_for(self, account: str) -> tuple[str, ...]:
        """The patterns of the routes to an integration, for its subscription."""
        routes = (route for route in self.routes.values() if route.to == account and route.enabled)
        return tuple(dict.fromkeys(pattern for route in routes for pattern in route.topics))

    def groups_for(self, account: str) -> bool:
        """Whether a route to an integration groups."""
        return any(route.to == account and route.enabled and route.group for route in self.routes.values())

    def runbook(self, environment: object, error_type: object) -> str:
        """The page for an environment and a type of error: the row of the environment first, then the default row,
        and within a row the type, then its default. Empty when there is none."""
        for row in (self.runbooks.get(str(environment)), self.runbooks.get(DEFAULT)):
            for found in () if row is None else (row.get(str(error_type)), row.get(DEFAULT)):
                if found:
                    return found
        return ""
