"""Topics and the patterns that select them.

A topic is dotted lower-case segments: `vm.created`, `github.pull_request.opened`. In a pattern `*` stands for
exactly one segment and a final `>` for one or more. Matching is done here for live subscribers and in
`redis/lua/take.lua` for durable ones; `tests/contracts` holds both to the same table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from eventbus.errors import InvalidEvent, Misconfigured

MAX_TOPIC_LENGTH = 200

_SEGMENT = r"[a-z0-9_-]+"
TOPIC = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*")
_PATTERN = re.compile(rf"(?:>|(?:{_SEGMENT}|\*)(?:\.(?:{_SEGMENT}|\*))*(?:\.>)?)")


def check_topic(topic: str) -> str:
    """Return the topic, or raise InvalidEvent saying what a topic looks like."""
    if len(topic) > MAX_TOPIC_LENGTH or not TOPIC.fullmatch(topic):
        raise InvalidEvent(
            f"{topic[:80]!r} is not a topic: use dotted lower-case segments of letters, digits, _ and -, "
            f"such as vm.created, {MAX_TOPIC_LENGTH} characters at most"
        )
    return topic


def check_pattern(pattern: str) -> str:
    """Return the pattern, or raise Misconfigured saying what a pattern looks like."""
    if len(pattern) > MAX_TOPIC_LENGTH or not _PATTERN.fullmatch(pattern):
        raise Misconfigured(
            f"{pattern[:80]!r} is not a topic pattern: use a topic, with * for one segment (vm.*) "
            "or a last > for all that follow (github.>)"
        )
    return pattern


def is_wildcard(pattern: str) -> bool:
    """True when the pattern can select more than one topic."""
    return pattern.endswith(">") or "*" in pattern.split(".")


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    segments = check_pattern(pattern).split(".")
    parts = [_SEGMENT if s == "*" else rf"{_SEGMENT}(?:\.{_SEGMENT})*" if s == ">" else re.escape(s) for s in segments]
    return re.compile(r"\.".join(parts))


def matches(pattern: str, topic: str) -> bool:
    """True when the pattern selects the topic."""
    return _compiled(pattern).fullmatch(topic) is not None


def common(one: str, other: str) -> str | None:
    """The pattern of exactly what both select; None where no topic is both."""
    left, right, made = one.split("."), other.split("."), list[str]()
    while left and right and ">" not in (left[0], right[0]):
        mine, theirs = left.pop(0), right.pop(0)
        if mine != theirs and "*" not in (mine, theirs):
            return None
        made.append(theirs if mine == "*" else mine)
    if bool(left) is not bool(right):
        return None
    both = ".".join([*made, *(right if left[:1] == [">"] else left)])  # > stands for all that the other has left
    return both if len(both) <= MAX_TOPIC_LENGTH else None  # no topic is shorter than its pattern


def matches_any(patterns: Iterable[str], topic: str) -> bool:
    """True when one of the patterns selects the topic."""
    return any(matches(pattern, topic) for pattern in patterns)
