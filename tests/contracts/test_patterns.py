"""One table of patterns and topics, kept by Python (live subscribers) and by take.lua (durable ones).

Python is asked with `matches`; take.lua by publishing the topics to a group declared with the pattern.
"""

from __future__ import annotations

import asyncio
import string
from collections.abc import Sequence
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.pattern import check_pattern, check_topic, common, is_wildcard, matches, matches_any
from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Letter, Shard

TABLE = [
    ("vm.created", "vm.created", True),
    ("vm.created", "vm.deleted", False),
    ("vm.created", "vm.created.twice", False),
    ("vm.created", "vm", False),
    ("vm", "vm", True),
    ("vm", "vm.created", False),
    ("vm.created", "vmxcreated", False),  # a dot is a dot
    ("*", "vm", True),
    ("*", "vm.created", False),
    ("vm.*", "vm.created", True),
    ("vm.*", "vm", False),
    ("vm.*", "vm.disk.full", False),
    ("vm.*", "vmx.created", False),
    ("vm.*", "xvm.created", False),
    ("*.created", "vm.created", True),
    ("*.created", "created", False),
    ("*.created", "a.vm.created", False),
    ("*.created", "vm.created.twice", False),
    ("*.*", "vm.created", True),
    ("*.*", "vm", False),
    ("*.*", "vm.disk.full", False),
    ("vm.*.full", "vm.disk.full", True),
    ("vm.*.full", "vm.disk.very.full", False),
    ("vm.*.full", "vm.full", False),
    (">", "vm", True),
    (">", "vm.disk.full", True),
    ("vm.>", "vm.created", True),
    ("vm.>", "vm.disk.full", True),
    ("vm.>", "vm", False),
    ("vm.>", "vmx.created", False),
    ("vm.>", "a.vm.created", False),
    ("vm.>", "vmxcreated", False),
    ("*.>", "vm.created", True),
    ("*.>", "vm.disk.full", True),
    ("*.>", "vm", False),
    ("vm.*.>", "vm.disk.full", True),
    ("vm.*.>", "vm.disk", False),
    ("vm.disk-full", "vm.disk-full", True),  # a hyphen is no repetition, as it is in a Lua pattern
    ("vm.disk-full", "vm.dis-full", False),
    ("disk-full.*", "disk-full.now", True),
    ("disk-full.*", "disfull.now", False),
    ("disk-full.*", "diskfull.now", False),
    ("*.disk-full.>", "vm.disk-full.a", True),
    ("*.disk-full.>", "vm.diskfull.a", False),
    ("a--b.*", "a--b.c", True),
    ("a--b.*", "ab.c", False),
    ("-.*", "-.-", True),
    ("-.*", "x.-", False),
    ("_.*", "_._", True),
    ("pull_request.*", "pull_request.opened", True),
    ("pull_request.*", "pullxrequest.opened", False),
    ("v1.*.2", "v1.0.2", True),
    ("v1.*.2", "v1.0.20", False),
]

_numbers = count(1)


async def select(url: str, patterns: Sequence[str], topics: Sequence[str]) -> list[bool]:
    """For each topic whether take.lua gives it to a group of these patterns."""
    connection = await Connection.open(url)
    shard = Shard(connection, ShardKeys(f"patterns-{next(_numbers)}"))
    await shard.declare("g", patterns, behind="0")
    stored = await shard.publish([Letter(t, None, str(n), str(n), str(n), 60_000, b"") for n, t in enumerate(topics)])
    batch = await shard.take("g", "a", len(topics), lease=timedelta(minutes=1), suspects=False, ordered=True)
    await connection.close()
    assert batch.read == len(topics)
    given_out = {one.entry_id for one in batch.taken}
    return [one.entry_id in given_out for one in stored]


@pytest.mark.parametrize(("pattern", "topic", "expected"), TABLE)
def test_python_keeps_the_table(pattern: str, topic: str, expected: bool) -> None:
    assert matches(check_pattern(pattern), check_topic(topic)) is expected


async def test_take_keeps_the_table(url: str) -> None:
    by_pattern: dict[str, dict[str, bool]] = {}
    for pattern, topic, expected in TABLE:
        by_pattern.setdefault(pattern, {})[topic] = expected
    for pattern, rows in by_pattern.items():
        assert dict(zip(rows, await select(url, [pattern], list(rows)), strict=True)) == rows, pattern


async def test_one_of_several_patterns_is_enough(url: str) -> None:
    topics = ["vm.created", "task.done", "a.b.c", "other"]
    assert await select(url, ["task.done", "vm.*", "*.b.*"], topics) == [True, True, True, False]
    assert [matches_any(["task.done", "vm.*", "*.b.*"], topic) for topic in topics] == [True, True, True, False]


@pytest.mark.parametrize(("pattern", "wild"), [("vm.created", False), ("vm.*", True), (">", True), ("vm.>", True)])
def test_a_wildcard_is_a_pattern_that_can_select_several_topics(pattern: str, wild: bool) -> None:
    assert is_wildcard(pattern) is wild


SEGMENT = st.text(alphabet="ab-_1", min_size=1, max_size=3) | st.text(
    alphabet=string.ascii_lowercase + string.digits + "_-", min_size=1, max_size=8
)
TOPIC = st.lists(SEGMENT, min_size=1, max_size=4).map(".".join)


@st.composite
def pattern_near(draw: st.DrawFn, topic: str) -> str:
    """A pattern made from a topic: segments starred, changed or dropped, perhaps a last `>`."""
    segments = []
    for segment in topic.split("."):
        made = draw(st.sampled_from(["keep", "keep", "star", "change", "drop"]))
        if made != "drop":
            segments.append({"keep": segment, "star": "*"}.get(made) or draw(SEGMENT))
    if not segments or draw(st.booleans()):
        segments = [*segments[: draw(st.integers(0, len(segments)))], ">"]
    return check_pattern(".".join(segments))


@given(st.data(), TOPIC)
def test_what_two_patterns_have_in_common_is_what_both_select(data: st.DataObject, topic: str) -> None:
    one, other = data.draw(pattern_near(topic)), data.draw(pattern_near(topic))
    both, near = common(one, other), data.draw(pattern_near(topic))
    assert common(other, one) == both
    for tried in {topic, *(near.replace("*", "x").replace(">", last) for last in ("x", "x.y"))}:
        is_both = matches(one, tried) and matches(other, tried)
        assert (both is not None and matches(check_pattern(both), tried)) is is_both


def test_patterns_that_no_topic_is_long_enough_for_have_nothing_in_common() -> None:
    assert common(f"{'a' * 150}.*", f"*.{'b' * 150}") is None
    assert common(f"{'a' * 150}.*", f"*.{'b' * 49}") == f"{'a' * 150}.{'b' * 49}"


@st.composite
def case(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    topics = draw(st.lists(TOPIC, min_size=1, max_size=8))
    return [draw(pattern_near(draw(st.sampled_from(topics)))) for _ in range(draw(st.integers(1, 3)))], topics


@settings(max_examples=200, deadline=None)
@given(case())
def test_python_and_take_agree_on_any_patterns_and_topics(made: tuple[list[str], list[str]]) -> None:
    patterns, topics = made
    expected = [matches_any(patterns, topic) for topic in topics]
    assert asyncio.run(select("memory://", patterns, topics)) == expected
