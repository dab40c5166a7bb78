"""How dead letters look: a row each or a row per problem, one in full, and as JSON."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import click

from eventbus import DeadLetter, EventBusError, Payload
from eventbus.codec import to_cloudevent
from service.cli import output
from service.cli.repair import age, cut, moment, number, two_lines

ENVELOPE = ("time", "source", "subject", "idempotency_key", "correlation_id", "causation_id", "traceparent")
CUT = 120
SHORT = 50


class Problem(NamedTuple):
    """What makes dead letters one problem to people."""

    group: str
    reason: str
    error: str


@dataclass(slots=True)
class Seen:
    """How often a problem occurs, when first, and its last letter."""

    count: int
    first: datetime
    last: DeadLetter


@dataclass(slots=True)
class Found:
    """Dead letters as they were found: all of them counted, the newest kept."""

    newest: deque[DeadLetter]
    count: int = 0
    seen: dict[Problem, Seen] = field(default_factory=dict)

    def add(self, letter: DeadLetter) -> None:
        """They come oldest first."""
        self.count += 1
        self.newest.append(letter)
        problem = Problem(letter.group, letter.reason, _line(letter.error))
        if problem in self.seen:
            seen = self.seen[problem]
            seen.count, seen.last = seen.count + 1, letter
        else:
            self.seen[problem] = Seen(1, letter.time, letter)

    def problems(self) -> list[tuple[Problem, Seen]]:
        """The most frequent first."""
        return sorted(self.seen.items(), key=lambda one: -one[1].count)


# -- many --------------------------------------------------------------------------------------------------------------


def show_letters(found: Found) -> None:
    """One each."""
    letters = list(found.newest)
    if sys.stdout.isatty():
        rows = [[letter.id, age(letter.time), letter.reason, letter.event_id] for letter in letters]
        said = [
            f"{letter.topic or 'no event'}{_retired(letter)}, {number(letter.attempts, 'attempt')}: "
            f"{_line(letter.error)}"
            for letter in letters
        ]
        two_lines(["id", "age", "reason", "event"], rows, said)
    else:
        columns = ["id", "age", "group", "topic", "event", "attempts", "reason", "error"]
        output.table(columns, [_row(letter) for letter in letters])
    (problem, seen), *_ = found.problems()
    newest = f" (the newest {len(letters):,} are shown)" if len(letters) < found.count else ""
    click.echo(f"\n{number(found.count, 'dead letter')}{newest}, {number(len(found.seen), 'problem')}")
    if len(found.seen) > 1:
        click.echo(f"most ({seen.count:,}): {problem.group}: {output.printable(cut(problem.error, SHORT))}")


def _row(letter: DeadLetter) -> list[str]:
    facts = [
        f"{letter.group}{_retired(letter)}",
        letter.topic or "-",
        letter.event_id,
        str(letter.attempts),
        letter.reason,
    ]
    return [letter.id, age(letter.time), *facts, cut(_line(letter.error), CUT)]


def show_problems(found: Found) -> None:
    """One for each problem, with a letter of it to look at."""
    columns = ["count", "first", "last", "group", "reason", "newest"]
    rows = [
        [f"{seen.count:,}", age(seen.first), age(seen.last.time), problem.group, problem.reason, seen.last.id]
        for problem, seen in found.problems()
    ]
    said = [problem.error for problem, _ in found.problems()]
    if sys.stdout.isatty():
        two_lines(columns, rows, said)
    else:
        output.table([*columns, "error"], [[*row, error] for row, error in zip(rows, said, strict=True)])
    click.echo(f"\n{number(found.count, 'dead letter')}, {number(len(found.seen), 'problem')}")


# -- one ---------------------------------------------------------------------------------------------------------------


def show_letter(letter: DeadLetter) -> None:
    """All of it, then what can be done."""
    facts = {
        "dead letter": letter.id,
        "given up": f"{moment(letter.time)} ({age(letter.time)} ago)",
        "reason": f"{letter.reason}, {number(letter.attempts, 'attempt')}",
        "error": letter.error,
        "group": f"{letter.group}{_retired(letter)}",
        "topic": letter.topic,
        "key": letter.key,
        "event": letter.event_id,
    }
    again = f"eventbus dead redrive {letter.id}"
    try:
        event = letter.event
    except EventBusError as error:
        _show_facts(facts | {"can't be read": str(error)})
        if letter.wire:
            click.echo(f"\nAs it is stored:\n{output.printable(letter.wire.decode(errors='replace'))}")
            again += " --data @CORRECTED.json"
    else:
        _show_facts(facts | {name.replace("_", " "): getattr(event, name) for name in ENVELOPE})
        click.echo("\nPayload:")
        output.as_json(event.data.model_dump(mode="json") if isinstance(event.data, Payload) else event.data)
    click.echo()
    if letter.wire:
        click.echo(f"send it again: {again}")
    click.echo(f"delete it:     eventbus dead drop {letter.id}")


def _show_facts(facts: Mapping[str, object]) -> None:
    """What there is, a line each; an error may have several."""
    shown = {name: str(value).splitlines() for name, value in facts.items() if value}
    width = max(map(len, shown))
    for name, (first, *more) in shown.items():
        click.echo(f"{name:{width}}  {output.printable(first)}")
        for line in more:
            click.echo(f"{'':{width}}  {output.printable(line)}")


# -- for machines ------------------------------------------------------------------------------------------------------


def document(found: Found) -> dict[str, Any]:
    """All that was found, in numbers, and the newest letters."""
    return {
        "count": found.count,
        "problems": [
            problem._asdict()
            | {
                "count": seen.count,
                "first": seen.first.isoformat(),
                "last": seen.last.time.isoformat(),
                "example": seen.last.id,
            }
            for problem, seen in found.problems()
        ],
        "letters": [described(letter) for letter in found.newest],
    }


def described(letter: DeadLetter, *, whole: bool = False) -> dict[str, Any]:
    """A letter; `whole`: with its event as CloudEvents 1.0, or why that can't be read and what is stored."""
    names = ("id", "group", "event_id", "topic", "key", "reason", "error", "attempts", "retired")
    found: dict[str, Any] = {name: getattr(letter, name) for name in names} | {"time": letter.time.isoformat()}
    if not whole:
        return found
    try:
        return found | {"event": to_cloudevent(letter.event), "unreadable": None}
    except EventBusError as error:
        return found | {"event": None, "unreadable": str(error), "wire": letter.wire.decode(errors="replace")}


def _retired(letter: DeadLetter) -> str:
    return " (retired)" if letter.retired else ""


def _line(text: str) -> str:
    return " ".join(text.split())
