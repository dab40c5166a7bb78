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
from registry.routes.template import Condition, Template
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
    severity: Rule | None = Field(default=None, description="A word or template, or a table; default: info")
    notification: Name | None = Field(default=None, description="Kind of the notification; default: message")
    text: Template | None = Field(default=None, description="The notification's text; makes the route a notification")
    title: Template | None = Field(default=None, description="Its title")
    fields: Mapping[str, Template] = Field(default_factory=dict, description="Short facts, by label; empty ones go")
    target: Template | None = Field(default=None, description="Channel, person or address; default: the integration's")
    url: Template | None = Field(default=None, description="Where to read more, such as {{ runbook }}")
    actions: tuple[RouteAction, ...] = Field(default=(), max_length=25, description="Its buttons")
    artifact: Name | None = Field(default=None, description="Makes the route an artifact of this type, such as issue")
    content: Mapping[str, Content] = Field(default_factory=dict, description="What the artifact holds, by name")

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        given = self.model_fields_set
        if self.artifact is not None and self.text is not None:
            raise ValueError("is a notification (text) or an artifact (artifact), not both: make it two routes")
        alone = sorted(given & {"notification", "title", "fields", "target", "url", "actions"})
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

    def templates(self) -> Iterator[tuple[tuple[str | int, ...], Template | Condition]]:
        """Every template and condition of it, with its place in the route."""
        for name in ("when", "dedup_key", "title", "text", "target", "url"):
            if (found := getattr(self, name)) is not None:
                yield (name,), found
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


Runbook = Annotated[str, Field(pattern=r"^https?://", max_length=2000)]
Runbooks = Mapping[str, Mapping[str, Runbook]]
"""The page to open, by environment and type of error; `default` stands for any other."""
Windows = Mapping[str, Annotated[tuple[TimeInterval, ...], Field(min_length=1)]]
"""Lists of intervals, by name."""


@dataclass(frozen=True)
class Routing:
    """Everything that decides where an event goes.

    routes    by name, in the order of the file, which is the order they are considered in
    runbooks  what `runbook` stands for in templates
    windows   what the routes' active and mute name
    """

    routes: Mapping[str, Route] = field(default_factory=dict)
    runbooks: Runbooks = field(default_factory=dict)
    windows: Mapping[str, tuple[TimeInterval, ...]] = field(default_factory=dict)

    def takes_over(self, account: str, topic: str) -> bool:
        """Whether routes decide about this topic for this integration, instead of its adapter alone."""
        return any(route.to == account and route.enabled and route.matches(topic) for route in self.routes.values())

    def topics_for(self, account: str) -> tuple[str, ...]:
        """The patterns of the routes to an integration, for its subscription."""
        routes = (route for route in self.routes.values() if route.to == account and route.enabled)
        return tuple(dict.fromkeys(pattern for route in routes for pattern in route.topics))

    def runbook(self, environment: object, error_type: object) -> str:
        """The page for an environment and a type of error: the row of the environment first, then the default row,
        and within a row the type, then its default. Empty when there is none."""
        for row in (self.runbooks.get(str(environment)), self.runbooks.get(DEFAULT)):
            for found in () if row is None else (row.get(str(error_type)), row.get(DEFAULT)):
                if found:
                    return found
        return ""
