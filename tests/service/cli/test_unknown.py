"""`eventbus unknown` and `eventbus explain`: a call that was cut off, from the doubt to its end, as people see it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from eventbus import Event, EventBus
from integrations.base import Delivery, DeliveryResult, Health, Integration, Manifest
from integrations.errors import OutcomeUnknown, Rejected
from registry.account import Account
from registry.metrics import Metrics
from registry.registry import Registry
from registry.routes.model import Route, Routing
from tests.service.cli.conftest import Desk
from tests.service.cli.terminal import eventbus


class Nothing(BaseModel):
    """Nothing to set."""


class Post(Integration[Nothing]):
    """A service that can't be asked. Its letters are its effects; the first `lost` answers never come."""

    manifest = Manifest(name="post", title="Post", config=Nothing, handles=("vm.*",))

    def __init__(self, *, lost: int = 0, refuse: str = "") -> None:
        self.letters: list[str] = []
        self._lost = lost
        self._refuse = refuse

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        if self._refuse:
            raise Rejected(self._refuse)
        self.letters.append(event.id)
        if len(self.letters) <= self._lost:
            raise OutcomeUnknown("the connection broke")
        return DeliveryResult.delivered("letter-1", url="https://post/1", detail="posted")

    async def health(self) -> Health:
        return Health("healthy")


def work(desk: Desk, post: Post, name: str = "post", routing: Routing | None = None) -> None:
    """A worker with this integration handles all there is."""

    async def run(bus: EventBus) -> None:
        registry = Registry(bus, Metrics(), serve=True, routing=routing)
        account = Account(name, post, Nothing())
        registry.register(account)
        await registry.start()
        await bus.run_until_idle()
        await registry.stop()

    desk.do(run)


@pytest.fixture
def post() -> Post:
    return Post(lost=1)


@pytest.fixture
def doubt(desk: Desk, post: Post) -> tuple[str, str]:
    """An event whose call was cut off, and its dead letter."""
    desk.declare("post", "vm.*")
    event_id = desk.publish("vm.created", vm_id="1")
    work(desk, post)
    (letter,) = desk.dead("post")
    return event_id, letter


def test_a_doubt_is_listed_and_explained(doubt: tuple[str, str]) -> None:
    event_id, letter = doubt
    done = eventbus("unknown", "list")
    assert done.exit_code == 0
    assert letter in done.stdout
    assert "the connection broke" in done.stdout
    assert json.loads(eventbus("unknown", "list", "--json").stdout)[0]["event_id"] == event_id
    told = eventbus("explain", event_id).stdout
    assert "✗ post  dead letter  unknown: OutcomeUnknown: the connection broke; see eventbus unknown" in told
    assert "attempt 1  unknown" in told


@pytest.mark.parametrize(("how", "letters"), [("done", 1), ("resend", 2)])
def test_a_person_ends_the_doubt(desk: Desk, post: Post, doubt: tuple[str, str], how: str, letters: int) -> None:
    event_id, letter = doubt
    done = eventbus("unknown", "resolve", letter, "--as", how, "--yes")
    assert (done.exit_code, done.stdout) == (0, f"1 doubt resolved as {how}\n")
    assert desk.dead("post") == []
    work(desk, post)
    assert len(post.letters) == letters
    assert desk.dead("post") == []
    told = eventbus("explain", event_id).stdout
    assert f"resolved as {how}" in told
    assert f"✓ post  {'duplicate' if how == 'done' else 'delivered'}" in told
    assert eventbus("unknown", "list").exit_code == 3


def test_what_was_found_there_is_kept_as_the_result(desk: Desk, post: Post, doubt: tuple[str, str]) -> None:
    event_id, letter = doubt
    eventbus("unknown", "resolve", letter, "--as", "done", "--reference", "letter-7", "--page", "https://post/7")
    work(desk, post)
    assert "https://post/7" in eventbus("explain", event_id).stdout


def test_a_call_that_a_route_asked_for_is_resolved_too(desk: Desk, post: Post, tmp_path: Path) -> None:
    routes = {"says": {"topics": ["vm.*"], "to": "log"}}
    config = tmp_path / "eventbus.yaml"
    document = {"events": {"url": desk.url}, "integrations": {"log": {}}, "routes": routes}
    config.write_text(yaml.safe_dump(document), encoding="utf-8")
    routing = Routing(routes={name: Route.model_validate(route) for name, route in routes.items()})
    desk.declare("log", "vm.*")
    desk.publish("vm.created", vm_id="1")
    work(desk, post, "log", routing)
    (letter,) = desk.dead("log")
    assert eventbus("unknown", "resolve", letter, "--as", "done", "--config", str(config)).exit_code == 0
    work(desk, post, "log", routing)
    assert (desk.dead("log"), len(post.letters)) == ([], 1)


def test_to_send_again_needs_a_yes(desk: Desk, doubt: tuple[str, str]) -> None:
    refused = eventbus("unknown", "resolve", doubt[1], "--as", "resend")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert desk.dead("post") == [doubt[1]]


def test_what_is_not_in_doubt_is_left_alone(desk: Desk) -> None:
    desk.declare("post", "vm.*")
    desk.publish("vm.created", vm_id="1")
    work(desk, Post(refuse="no such street"))
    (letter,) = desk.dead("post")
    for named in (letter, "post/1-1", "nonsense"):
        done = eventbus("unknown", "resolve", named, "--as", "done", "--json")
        assert (done.exit_code, json.loads(done.stdout)) == (3, {"resolved": 0, "gone": [named]})
    assert desk.dead("post") == [letter]


# -- explain -----------------------------------------------------------------------------------------------------------


def stand(event_id: str, *arguments: str) -> dict[str, str]:
    """How it stands with each group."""
    story = json.loads(eventbus("explain", event_id, "--json", *arguments).stdout)
    return {one["group"]: one["stand"] for one in story["groups"]}


def test_every_group_says_how_it_stands(desk: Desk) -> None:
    for group, pattern in (("post", "vm.*"), ("later", "vm.*"), ("other", "task.*"), ("plain", "vm.*")):
        desk.declare(group, pattern)
    event_id = desk.publish("vm.created", vm_id="1")
    work(desk, Post())
    desk.serve("plain", "vm.*")
    assert stand(event_id) == {"post": "delivered", "later": "unread", "other": "not for it", "plain": "done"}
    told = eventbus("explain", event_id).stdout
    assert "https://post/1" in told
    assert "- later  unread  no worker has read so far yet" in told
    assert "other" not in told.replace("1 group not shown", "")
    assert "- other  not for it" in eventbus("explain", event_id, "--all").stdout


def test_a_dead_letter_says_why(desk: Desk) -> None:
    desk.declare("post", "vm.*")
    event_id = desk.publish("vm.created", vm_id="1")
    work(desk, Post(refuse="no such street"))
    assert "✗ post  dead letter  rejected: Rejected: no such street" in eventbus("explain", event_id).stdout


def test_each_route_says_why_it_was_not_taken(desk: Desk, tmp_path: Path) -> None:
    event_id = desk.publish("task.failed", task_id="1", error="boom", environment="staging")
    config = tmp_path / "eventbus.yaml"
    routes: dict[str, Any] = {
        "pages": {"topics": ["task.failed"], "when": 'data.environment == "production"', "to": "log"},
        "says": {"topics": ["task.*"], "to": "log", "text": "{{ data.error }}"},
    }
    config.write_text(
        yaml.safe_dump({"events": {"url": desk.url}, "integrations": {"log": {}}, "routes": routes}), encoding="utf-8"
    )
    desk.declare("log", "task.*")
    story = json.loads(eventbus("explain", event_id, "--config", str(config), "--json").stdout)
    assert [(one["route"], one["taken"]) for one in story["routes"]] == [("pages", False), ("says", True)]
    assert "staging" in story["routes"][0]["reason"]


def test_nothing_is_known_of_an_event_that_never_was(desk: Desk) -> None:
    desk.declare("post", "vm.*")
    done = eventbus("explain", "no-such-event")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "nothing is known of an event no-such-event" in done.stderr


def test_an_event_with_an_id_of_its_own_is_found_too(desk: Desk) -> None:
    desk.declare("later", "vm.*")

    async def publish(bus: EventBus) -> Sequence[str]:
        receipt = await bus.publish("vm.created", {"vm_id": "1"}, id="their-id-1")
        return [receipt.event_id]

    desk.do(publish)
    assert stand("their-id-1") == {"later": "unread"}
