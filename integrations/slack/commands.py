"""The slash commands: what was typed, to what is answered at once and what is published. Pure, so within the 3 s.

`status`, `vm-list` and `unknown` are published and answered later by the worker, through the command's response URL;
`task` publishes a `task.created`; `help` publishes nothing, and so does anything that can't be understood or that its
sender may not ask for.
"""

from __future__ import annotations

import difflib
import hashlib
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from eventbus.payload import Payload
from eventbus.topics import SlackCommand, TaskCreated
from integrations.slack.blocks import escape

ARGUMENTS = {"status": "", "vm-list": "", "task": "create vm name=quick-test vcpus=2", "unknown": "", "help": ""}
PURPOSE = {
    "status": "how every component is",
    "vm-list": "the machines that are known",
    "task": "ask for a machine; memory_mb=2048 may follow",
    "unknown": "calls in doubt, to say what became of them",
    "help": "this list",
}
NOT_YOURS = "You are not among those who may decide this."
NUMBERS = ("vcpus", "memory_mb")
PARAMETERS = ("name", *NUMBERS)
MAX_NUMBER = 10_000_000

_STRAIGHT = str.maketrans("\u201c\u201d\u2018\u2019", "\"\"''")
"""Slack's clients turn typed quotes into curly ones."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer that only the asker sees, and the event body to publish under `topic`, if any."""

    text: str
    topic: str = ""
    payload: Payload | None = None


def answer(prefix: str, call: SlackCommand, call_id: str, operators: Collection[str] = ()) -> Reply:
    """What a command comes to. `call_id` is Slack's id of the call: the same call gives the same task id.

    `operators`: the ids of those who may see calls in doubt, and resolve them.
    """
    name = call.command.removeprefix(f"/{prefix}-")
    if name not in ARGUMENTS or name == call.command:
        return Reply(_unknown(prefix, call.command))
    if name == "help":
        return Reply(_list(prefix))
    if name == "task":
        return _task(prefix, call, call_id)
    if name == "unknown" and call.user_id not in operators:
        return Reply(f"{NOT_YOURS} `operators` in the settings of this integration names them.")
    return Reply("Asked; the answer follows here.", f"slack.command.{name}", call)


def _task(prefix: str, call: SlackCommand, call_id: str) -> Reply:
    try:
        parameters = parse_task(call.text)
    except ValueError as error:
        return Reply(f"{escape(str(error), 500)}.\nUsage: `/{prefix}-task {ARGUMENTS['task']}`")
    task_id = "task-" + hashlib.blake2b(call_id.encode(), digest_size=8).hexdigest()
    task = TaskCreated(
        task_id=task_id,
        name=str(parameters["name"]),
        kind="create vm",
        parameters=parameters,
        requested_by=call.user_id,
    )
    asked = " ".join(f"{name}={value}" for name, value in parameters.items())
    return Reply(f"Creating task: create vm {escape(asked, 500)}\nTask ID: {task_id}", "task.created", task)


def parse_task(text: str) -> dict[str, JsonValue]:
    """`create vm name=... vcpus=...`: the parameters, numbers as numbers. Raises ValueError that says what is wrong."""
    try:
        words = shlex.split(text.translate(_STRAIGHT))
    except ValueError:
        raise ValueError("A quote is not closed") from None
    if words[:2] != ["create", "vm"]:
        raise ValueError(f"The one task there is is 'create vm', not {' '.join(words[:2])[:60]!r}")
    found: dict[str, JsonValue] = {}
    for word in words[2:]:
        name, equals, value = word.partition("=")
        if not equals or not value:
            raise ValueError(f"{word[:60]!r} is no parameter: write name=value")
        if name not in PARAMETERS:
            raise ValueError(f"There is no parameter {name[:60]!r}{_perhaps(name, PARAMETERS)}")
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = _number(name, value) if name in NUMBERS else value[:200]
    if "name" not in found:
        raise ValueError("The machine needs a name")
    return found


def _number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10 and 1 <= int(value) <= MAX_NUMBER):
        raise ValueError(f"{name} is a whole number from 1 to {MAX_NUMBER}, not {value[:60]!r}")
    return int(value)


def _unknown(prefix: str, command: str) -> str:
    full: Mapping[str, str] = {f"/{prefix}-{name}": name for name in ARGUMENTS}
    return f"There is no command {escape(command, 100)}{_perhaps(command, full)}.\n{_list(prefix)}"


def _list(prefix: str) -> str:
    return "\n".join(
        f"\u2022 `{f'/{prefix}-{name} {arguments}'.strip()}` - {PURPOSE[name]}" for name, arguments in ARGUMENTS.items()
    )


def _perhaps(word: str, known: Mapping[str, str] | tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
