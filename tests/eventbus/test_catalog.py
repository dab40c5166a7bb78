"""The catalogue: what class a topic has, and how data of an older version becomes today's."""

from __future__ import annotations

from collections.abc import Iterator
from types import new_class
from typing import Any

import pytest

from eventbus import Event, InvalidEvent, Misconfigured, Payload, UnknownVersion, catalog
from eventbus.codec import decode, encode
from eventbus.topics import GitHubWebhook, SlackCommand, VmCreated, VmStarted


class Made:
    """Payload classes of one test, forgotten after it."""

    def __init__(self) -> None:
        self.classes: list[type[Payload]] = []

    def __call__(self, topic: str, version: int = 1, **fields: Any) -> type[Payload]:
        body: dict[str, Any] = {
            "__annotations__": {name: kind for name, kind in fields.items() if isinstance(kind, type)}
        }
        body |= {name: made for name, made in fields.items() if not isinstance(made, type)}
        name = f"Made{len(self.classes)}"
        made = new_class(name, (Payload,), {"topic": topic, "version": version}, lambda space: space.update(body))
        self.classes.append(made)
        return made


@pytest.fixture
def make() -> Iterator[Made]:
    made = Made()
    yield made
    for cls in made.classes:
        catalog.remove(cls)


def test_defining_a_class_adds_it(make: Made) -> None:
    assert catalog.find("made.one") is None
    cls = make("made.one", size=int)

    assert catalog.find("made.one") is cls
    assert cls in list(catalog)


def test_defining_a_topic_twice_is_refused_and_names_the_class_to_import() -> None:
    with pytest.raises(TypeError, match=r"topic vm\.created version 1 is defined by eventbus\.topics\.vm\.VmCreated"):

        class Mine(Payload, topic="vm.created"):
            vm_id: str

    assert catalog.find("vm.created") is VmCreated


def test_a_key_that_is_no_field_is_refused() -> None:
    with pytest.raises(TypeError, match=r"key='vm' is not one of its fields: vm_id"):

        class Bad(Payload, topic="made.bad", key="vm"):
            vm_id: str

    assert catalog.find("made.bad") is None


def test_a_topic_that_is_none_is_refused() -> None:
    with pytest.raises(Misconfigured, match="is not a topic pattern"):

        class Bad(Payload, topic="Made Bad"):
            pass


def test_a_family_gives_its_class_to_every_topic_of_it() -> None:
    assert catalog.find("github.pull_request.opened") is GitHubWebhook
    assert catalog.find("github.push") is GitHubWebhook
    assert catalog.find("slack.command.status") is SlackCommand
    assert catalog.find("slack.command.status.more") is None


def test_a_topics_own_class_wins_over_its_familys(make: Made) -> None:
    family = make("made.*")
    own = make("made.one")

    assert (catalog.find("made.one"), catalog.find("made.two")) == (own, family)


def test_a_payload_of_a_family_needs_its_topic_named() -> None:
    hook = GitHubWebhook(delivery="1", event="push")

    with pytest.raises(InvalidEvent, match=r"GitHubWebhook serves many topics \(github\.>\): name one before it"):
        catalog.event(hook)
    assert catalog.event("github.push", hook).topic == "github.push"


def test_a_payload_under_another_classes_topic_is_refused() -> None:
    with pytest.raises(InvalidEvent, match=r"vm\.created carries VmCreated, not VmStarted"):
        catalog.event("vm.created", VmStarted(vm_id="vm-1"))


def test_a_complete_event_takes_nothing_more() -> None:
    with pytest.raises(TypeError, match="an Event is complete"):
        catalog.event(Event(topic="custom.x", data={}), source="/cli")


def test_each_wrong_field_is_named_without_its_value() -> None:
    with pytest.raises(InvalidEvent) as caught:
        catalog.event("vm.created", {"vcpus": "secret-1", "memory_mb": "secret-2"})

    assert "vm_id: field required" in str(caught.value)
    assert "vcpus: input should be a valid integer" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_unknown_field_of_the_envelope_is_named() -> None:
    with pytest.raises(InvalidEvent, match="colour: extra inputs are not permitted"):
        catalog.event("custom.x", {}, colour="red")


def test_many_wrong_fields_are_counted(make: Made) -> None:
    fields: dict[str, Any] = {f"f{n}": int for n in range(9)}
    make("made.wide", **fields)

    with pytest.raises(InvalidEvent, match="and 4 more"):
        catalog.event("made.wide", {})


def test_a_fault_deep_inside_has_a_short_text() -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"d": deep}

    with pytest.raises(InvalidEvent) as caught:
        catalog.event("custom.x", deep)
    assert len(str(caught.value)) < 2000


def test_older_data_passes_each_upcast_in_turn(make: Made) -> None:
    make("made.grown", size=int)
    wire = encode(catalog.event("made.grown", {"size": 3}))
    make("made.grown", 2, size=int, unit=str, upcast=classmethod(lambda cls, data: {**data, "unit": "mb"}))
    make(
        "made.grown",
        3,
        bytes=int,
        upcast=classmethod(lambda cls, data: {"bytes": data["size"] * (1_000_000 if data["unit"] == "mb" else 1)}),
    )

    event = decode("made.grown", wire)

    assert event.data.model_dump() == {"bytes": 3_000_000}
    assert event.version == 3


def test_todays_data_is_not_upcast(make: Made) -> None:
    def never(cls: type[Payload], data: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError("this is today's version")

    make("made.now", 2, size=int, upcast=classmethod(never))
    wire = encode(catalog.event("made.now", {"size": 3}))

    assert decode("made.now", wire).version == 2


@pytest.mark.parametrize("newer", [{"size": int}, {"other": int}], ids=["that still fits", "that no longer fits"])
def test_data_of_a_newer_version_is_told_from_wrong_data(make: Made, newer: dict[str, type]) -> None:
    make("made.ahead", size=int)
    later = make("made.ahead", 2, **newer)
    wire = encode(catalog.event("made.ahead", dict.fromkeys(newer, 1)))
    catalog.remove(later)  # what the last release knows

    with pytest.raises(UnknownVersion, match=r"made\.ahead has payload version 2; this program knows 1: upgrade it"):
        decode("made.ahead", wire)


def test_every_standard_topic_has_an_example_that_fits_it() -> None:
    for cls in catalog:
        example = cls.example()
        if cls.__module__.startswith("eventbus.topics"):
            assert example is not None, cls.__name__
            assert cls.model_validate_json(example.model_dump_json()) == example


@pytest.mark.parametrize(
    ("topic", "required"),
    [
        ("task.created", {"task_id"}),
        ("task.started", {"task_id"}),
        ("task.completed", {"task_id"}),
        ("task.failed", {"task_id", "error"}),
        ("vm.created", {"vm_id"}),
        ("vm.started", {"vm_id"}),
        ("vm.stopped", {"vm_id"}),
        ("vm.failed", {"vm_id", "error"}),
        ("migration.started", {"migration"}),
        ("migration.completed", {"migration"}),
        ("migration.failed", {"migration", "error"}),
        ("migration.rolled_back", {"migration"}),
        ("integration.webhook_received", {"integration", "size"}),
        ("github.>", {"delivery", "event"}),
        ("delivery.dead_lettered", {"group", "event_id", "event_topic", "reason", "attempts"}),
    ],
)
def test_the_catalogue_lists_the_standard_topics(topic: str, required: set[str]) -> None:
    (cls,) = (one for one in catalog if one.__topic__ == topic)
    schema = cls.model_json_schema()
    assert set(schema["required"]) == required
    assert all("description" in schema["properties"][name] for name in required)
