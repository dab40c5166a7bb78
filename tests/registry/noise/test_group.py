"""When a group is told of, by a clock of our own: each row of Alertmanager's table, and each rule around it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.base import Notification
from registry.noise import group as rules_of
from registry.noise.group import (
    MAX_ALERTS,
    MAX_BYTES,
    MAX_NAMES,
    Alert,
    Flush,
    Group,
    Status,
    confirmed,
    doubted,
    flush,
    gather,
    kept_names,
    sent,
)
from registry.routes.filters import is_cut
from registry.routes.model import Grouping
from registry.routes.template import MuteCondition

RULES = Grouping()
QUIET = Grouping(send_resolved=False)
EMPTY = Group(route="r", values={"environment": "prod"})


class Clock:
    """A group and its time: events come, times are met, messages are sent at once."""

    def __init__(self, rules: Grouping = RULES) -> None:
        self.rules = rules
        self.group = EMPTY
        self.now = 0.0
        self.sequence = 0

    def event(self, thread: str, status: Status = "firing", *, sequence: int | None = None) -> None:
        self.sequence += 1
        number = sequence or self.sequence
        what = Notification(message=f"{thread} {status}")
        alert = Alert(status=status, event_id=f"e{number}", sequence=number, since=self.now, at=self.now, what=what)
        self.group = gather(self.group, thread, alert, self.rules, f"life {self.now:g}")

    def fires(self, *threads: str) -> None:
        for thread in threads:
            self.event(thread)

    def ends(self, *threads: str) -> None:
        for thread in threads:
            self.event(thread, "resolved")

    def meet(self, *muted: str) -> Flush:
        """The group's next time. A message is not yet on its way."""
        self.now = self.group.due
        return flush(self.group, self.rules, self.now, dict.fromkeys(muted, "muted"))

    def tick(self, *muted: str) -> tuple[str, dict[str, str]]:
        """The next time, and the message sent: why, and what it says of whom."""
        flushed = self.meet(*muted)
        self.group = flushed.group
        if flushed.reason:
            self.group = sent(flushed.pending(Notification(message="x"), f"tick {self.now}", self.now))
        return flushed.reason, {thread: one.status for thread, one in flushed.alerts.items()}


NOTHING: tuple[str, dict[str, str]] = ("", {})


# -- the times --------------------------------------------------------------------------------------------------------


def test_the_defaults_are_alertmanagers() -> None:
    assert (RULES.wait, RULES.interval, RULES.repeat, RULES.lasts, RULES.send_resolved) == (30, 300, 14_400, None, True)


def test_a_new_group_waits_and_then_looks_at_every_interval() -> None:
    clock = Clock()
    clock.fires("a")
    assert clock.group.due == 30
    clock.now = 20
    clock.fires("b")
    assert clock.group.due == 30, "the wait counts from the first alert"
    assert clock.tick() == ("first notification", {"a": "firing", "b": "firing"})
    assert clock.group.due == 330
    assert clock.tick() == NOTHING
    assert (clock.group.due, clock.group.tick) == (630, 3)


def test_what_is_resolved_within_the_wait_is_not_told_at_all() -> None:
    clock = Clock()
    clock.fires("a")
    clock.ends("a")
    flushed = clock.meet()
    assert (flushed.reason, dict(flushed.dropped)) == ("", {"a": "resolved before it was told"})
    assert flushed.group.born is None, "nothing is left of the group"


def test_the_repeat_is_looked_at_only_at_the_interval() -> None:
    clock = Clock(Grouping(interval=300, repeat=700))
    clock.fires("a")
    told = [(clock.tick()[0], clock.now) for _ in range(8)]
    assert [at for reason, at in told if reason] == [30, 930, 1830], "rounded up to a multiple of the interval"


# -- the table --------------------------------------------------------------------------------------------------------


def test_row_1_without_a_log_what_fires_is_a_first_notification() -> None:
    clock = Clock()
    clock.fires("a")
    assert clock.tick() == ("first notification", {"a": "firing"})


def test_row_1_without_a_log_what_is_only_resolved_is_nothing() -> None:
    clock = Clock()
    clock.fires("a", "b")
    clock.ends("a", "b")
    assert clock.tick() == NOTHING


def test_row_2_an_alert_that_the_log_lacks_is_new_in_the_group() -> None:
    clock = Clock()
    clock.fires("a")
    clock.tick()
    clock.fires("b")
    assert clock.tick() == ("new alerts in group", {"a": "firing", "b": "firing"})


def test_row_2_after_a_log_without_firing_ones_it_is_a_first_notification_again() -> None:
    clock = Clock()
    clock.fires("a", "b")
    clock.tick()
    clock.ends("a")
    assert clock.tick("b") == ("all alerts resolved", {"a": "resolved"})
    assert clock.tick() == ("first notification", {"b": "firing"})


def test_row_3_the_end_of_the_last_is_that_all_are_resolved() -> None:
    clock = Clock()
    clock.fires("a", "b")
    clock.tick()
    clock.ends("a", "b")
    assert clock.tick() == ("all alerts resolved", {"a": "resolved", "b": "resolved"})
    assert (clock.group.born, clock.group.alerts) == (None, {})


def test_row_3_without_send_resolved_nothing_leaves_but_the_log_is_cleared() -> None:
    clock = Clock(QUIET)
    clock.fires("a", "b")
    clock.tick()
    clock.ends("a")
    assert clock.tick("b") == NOTHING
    assert clock.group.told is not None
    assert clock.group.told.firing == frozenset()
    assert clock.tick() == ("first notification", {"b": "firing"}), "the log was cleared"


def test_row_4_the_end_of_one_of_several_is_told_with_those_that_go_on() -> None:
    clock = Clock()
    clock.fires("a", "b")
    clock.tick()
    clock.ends("a")
    assert clock.tick() == ("new resolved alerts", {"a": "resolved", "b": "firing"})
    assert clock.tick() == NOTHING
    assert list(clock.group.alerts) == ["b"]


def test_row_4_without_send_resolved_it_is_not() -> None:
    clock = Clock(QUIET)
    clock.fires("a", "b")
    clock.tick()
    clock.ends("a")
    assert clock.tick() == NOTHING
    assert list(clock.group.alerts) == ["b"]


def test_row_5_what_still_fires_is_repeated_and_else_suppressed() -> None:
    clock = Clock(Grouping(interval=300, repeat=600))
    clock.fires("a")
    assert [clock.tick()[0] for _ in range(5)] == [
        "first notification",
        "",
        "repeat interval elapsed",
        "",
        "repeat interval elapsed",
    ]


# -- ends -------------------------------------------------------------------------------------------------------------


def test_an_alert_that_flaps_between_two_times_says_nothing_new() -> None:
    clock = Clock()
    clock.fires("a")
    clock.tick()
    clock.ends("a")
    clock.fires("a")
    assert clock.tick() == NOTHING


def test_an_alert_counts_as_resolved_when_it_has_lasted() -> None:
    clock = Clock(Grouping(lasts=250))
    clock.fires("a")
    assert clock.tick()[0] == "first notification"
    clock.now = 100
    clock.fires("a")
    assert clock.tick() == NOTHING, "at 330: its last event was 230 s ago"
    assert clock.tick() == ("all alerts resolved", {"a": "resolved"})


def test_after_all_is_resolved_the_next_alert_waits_as_a_first_one() -> None:
    clock = Clock()
    clock.fires("a")
    clock.tick()
    clock.ends("a")
    clock.tick()
    clock.now += 10
    clock.fires("a")
    assert (clock.group.due - clock.now, clock.group.tick, clock.group.born) == (30, 1, f"life {clock.now:g}")
    assert clock.tick() == ("first notification", {"a": "firing"})


# -- muting -----------------------------------------------------------------------------------------------------------


def test_muting_counts_when_the_time_has_come_and_not_when_the_event_comes() -> None:
    clock = Clock()
    clock.fires("a")
    assert clock.tick("a") == NOTHING, "a silence that was made late works"
    assert clock.tick() == ("first notification", {"a": "firing"}), "one that ended lets it fire"


def test_what_is_silenced_after_it_was_told_fires_again_afterwards_if_the_group_was_told_meanwhile() -> None:
    clock = Clock()
    clock.fires("a")
    clock.tick()
    clock.fires("b")
    assert clock.tick("a") == ("new alerts in group", {"b": "firing"})
    assert clock.tick() == ("new alerts in group", {"a": "firing", "b": "firing"})


@pytest.mark.parametrize("told_meanwhile", [False, True])
def test_an_end_whose_fire_was_told_is_told_though_muted(told_meanwhile: bool) -> None:
    clock = Clock()
    clock.fires("a")
    clock.tick()
    if told_meanwhile:  # now the log does not hold it any more, and Alertmanager would not know of it
        clock.fires("b")
        clock.tick("a")
        clock.ends("b")
        clock.tick("a")
    clock.ends("a")
    reason, said = clock.tick("a")
    assert reason == "all alerts resolved"
    assert said == {"a": "resolved"}


def test_a_muted_group_is_not_told_to_be_resolved_since_nothing_is() -> None:
    clock = Clock()
    clock.fires("a")
    clock.tick()
    assert clock.tick("a") == NOTHING
    assert clock.tick() == NOTHING, "still the alert that was told"


def test_an_end_whose_fire_was_never_told_is_dropped_also_beside_others() -> None:
    clock = Clock()
    clock.fires("a")
    clock.tick()
    clock.fires("b")
    clock.ends("b")
    flushed = clock.meet()
    assert (flushed.reason, dict(flushed.dropped)) == ("", {"b": "resolved before it was told"})


# -- moments ----------------------------------------------------------------------------------------------------------


def test_a_moment_is_told_once_and_forgotten() -> None:
    clock = Clock()
    clock.event("a", "momentary")
    clock.event("b", "momentary")
    assert clock.tick() == ("first notification", {"a": "momentary", "b": "momentary"})
    assert clock.group.alerts == {}
    assert clock.group.open == frozenset()
    assert clock.tick() == NOTHING
    assert clock.group.born is None


def test_moments_that_come_after_a_message_are_told_an_interval_later() -> None:
    clock = Clock()
    clock.event("a", "momentary")
    clock.tick()
    clock.now += 1
    clock.event("b", "momentary")
    assert clock.tick() == ("first notification", {"b": "momentary"})
    assert clock.now == 330


def test_a_moment_of_a_thread_that_was_told_before_is_new() -> None:
    clock = Clock()
    clock.event("a", "momentary")
    clock.tick()
    clock.event("a", "momentary")
    assert clock.tick()[1] == {"a": "momentary"}


def test_a_muted_moment_is_not_kept_for_later() -> None:
    clock = Clock()
    clock.event("a", "momentary")
    flushed = clock.meet("a")
    assert (flushed.reason, dict(flushed.dropped)) == ("", {"a": "muted"})
    assert flushed.group.alerts == {}


# -- repeats and late events ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["firing", "momentary"])
def test_a_repeat_of_an_event_changes_nothing_before_and_after_it_was_told(status: Status) -> None:
    clock = Clock()
    clock.event("a", status)
    before = clock.group
    clock.event("a", status, sequence=1)
    assert clock.group is before
    clock.tick()
    clock.event("a", status, sequence=1)
    assert clock.tick() == NOTHING


def test_a_fire_that_comes_after_its_end_does_not_fire() -> None:
    clock = Clock()
    clock.event("a", "resolved", sequence=2)
    clock.event("a", "firing", sequence=1)
    assert (clock.group.alerts, clock.group.born) == ({}, None)


def test_a_fire_that_comes_again_after_its_end_was_told_does_not_fire() -> None:
    clock = Clock()
    clock.fires("a")
    clock.tick()
    clock.ends("a")
    clock.tick()
    clock.event("a", "firing", sequence=1)
    assert clock.group.alerts == {}


def test_what_changes_while_a_message_is_on_its_way_is_told_next() -> None:
    clock = Clock()
    clock.fires("a", "b")
    flushed = clock.meet()
    clock.group = flushed.pending(Notification(message="x"), "tick", clock.now)
    clock.ends("a")
    clock.fires("c")
    clock.group = sent(clock.group)
    assert clock.tick() == ("new alerts in group", {"a": "resolved", "b": "firing", "c": "firing"})


def test_a_moment_that_comes_while_its_thread_is_told_is_told_next() -> None:
    clock = Clock()
    clock.event("a", "momentary")
    clock.group = clock.meet().pending(Notification(message="x"), "tick", clock.now)
    clock.event("a", "momentary")
    clock.group = sent(clock.group)
    assert clock.tick()[1] == {"a": "momentary"}


# -- messages that end otherwise --------------------------------------------------------------------------------------


def test_a_message_is_confirmed_once_and_by_its_own_time() -> None:
    clock = Clock()
    clock.fires("a")
    pending = clock.meet().pending(Notification(message="x"), "tick", clock.now)
    assert confirmed(pending, "another") is pending
    once = confirmed(pending, "tick")
    assert once.told is not None
    assert confirmed(once, "tick") is once


def test_a_message_in_doubt_counts_as_told_and_is_kept_until_a_person_knows() -> None:
    clock = Clock()
    clock.fires("a")
    clock.group = doubted(clock.meet().pending(Notification(message="x"), "tick", clock.now))
    assert clock.tick() == NOTHING, "it may have been told: it is not told twice"
    assert [one.event_id for one in clock.group.parked] == ["tick"]
    assert confirmed(clock.group, "tick").parked == ()


def test_a_second_message_in_doubt_does_not_take_the_place_of_the_first() -> None:
    clock = Clock()
    for tick in ("one", "two"):
        clock.fires(tick)
        clock.group = doubted(clock.meet().pending(Notification(message=tick), tick, clock.now))
    assert [one.event_id for one in clock.group.parked] == ["one", "two"]
    assert [one.event_id for one in confirmed(clock.group, "one").parked] == ["two"]


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_beyond_a_thousand_alerts_are_counted_and_not_kept() -> None:
    clock = Clock()
    clock.fires(*(str(number) for number in range(MAX_ALERTS + 7)))
    assert (len(clock.group.alerts), clock.group.beyond) == (MAX_ALERTS, 7)
    clock.ends("0")
    assert clock.group.alerts["0"].status == "resolved", "what is kept goes on"


def test_a_group_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_of, "MAX_BYTES", 1_000)
    clock = Clock()
    clock.fires(*(str(number) for number in range(50)))
    assert 1 < len(clock.group.alerts) < 10
    assert len(clock.group.alerts) + clock.group.beyond == 50


def test_alerts_that_grow_afterwards_keep_within_the_bytes_too() -> None:
    group, rules = Group(route="r", values={}), Grouping()
    for number in range(1_000):
        words = Notification(message="x" * (10 if number < 500 else 16_000))
        alert = Alert(status="firing", event_id="e", sequence=number + 1, since=0, at=0, what=words)
        group = gather(group, f"t{number % 500}", alert, rules, "life")
    assert len(group.alerts) == 500
    assert len(group.model_dump_json()) < 2 * MAX_BYTES


@given(st.recursive(st.text() | st.integers() | st.none(), lambda of: st.lists(of) | st.dictionaries(st.text(), of)))
def test_what_is_kept_to_be_asked_about_fits(data: Any) -> None:
    kept, _ = kept_names({"topic": "vm.failed", "data": {"a": data}, "severity": "error"})
    assert len(json.dumps(kept)) <= MAX_NAMES
    assert (kept["topic"], kept["severity"]) == ("vm.failed", "error")


def test_long_data_is_cut_before_it_goes() -> None:
    kept, cut = kept_names({"topic": "t", "data": {"host": "web-1", "log": "x" * 100_000}})
    assert kept["data"] == {"host": "web-1", "log": "x" * 1_000}
    assert cut == (("data", "log"),)
    kept, cut = kept_names({"topic": "t", "data": {str(n): "y" * 99 for n in range(200)}})
    assert "data" not in kept
    assert ("data",) in cut


SMALL = {"a": "x" * 90, "b": [1, 2, {"c": "d"}], "e": {"f": None}}
SAID = [
    "'x' in data.a",
    "not ('x' in data.a)",
    "'q' not in data.long",
    "not (data.long is defined)",
    "data.b[2].c == 'd'",
]
SAID += ["(data.long | default('x')) == 'x'", "'q' if data.long else 'p'", "(data.long ~ '') == ''", "data.e.f is none"]
SAID += ["(data.many | length) == 1", "(data.many | last) == 5", "(data.deep | json) == '{}'", "data.deep.y == 1"]
SAID += ["not (data.deep.x is defined)", "((data.long and data.nope) | default(1)) == 1", "(data | items | first) == 1"]
SAID += ["((data.long == 'x' and data.nope) | default(1)) == 1", "(data.nope | default(data.long)) == 'x'"]
SAID += ["to == 'slack' or data.long == 'x'", "to == 'slack' and data.long == 'x'", "data['long'][0] == 'x'", "true"]


@pytest.mark.parametrize("length", [1, 2_000, 9_000])
@pytest.mark.parametrize("said", SAID)
def test_no_condition_holds_of_what_was_kept_that_does_not_hold_of_the_event(said: str, length: int) -> None:
    data = {**SMALL, "long": "x" * length + "q", "many": list(range(length)), "deep": {"x": "y" * length, "y": 1}}
    whole: dict[str, Any] = {"topic": "t", "to": "slack", "data": data, "event": {}}
    kept, cut = kept_names(whole)
    condition = MuteCondition.of(said)
    known, full = condition.value(kept, cut), condition.value(whole)
    assert known == full or is_cut(known)
    assert cut or known == full


def test_alerts_without_room_for_their_data_are_not_judged_by_that_of_an_earlier_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("registry.noise.group.MAX_BYTES", 1_000)
    group, rules = Group(route="r", values={}), Grouping()
    for number, (severity, log) in enumerate([("info", "x"), ("critical", "x" * 1_000)], 1):
        names: dict[str, Any] = {"severity": severity, "data": {"log": log}}
        kept, cut = kept_names(names)
        words = Notification(message="x")
        alert = Alert(status="firing", event_id="e", sequence=number, since=0, at=0, what=words, names=kept, cut=cut)
        group = gather(group, "t", alert, rules, "life")
    (alert,) = group.alerts.values()
    assert alert.names["severity"] == "critical"
    assert is_cut(MuteCondition.of("data.log == 'x'").value(alert.names, alert.cut))


# -- whatever happens -------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.sampled_from(["fire", "end", "tick", "muted"]), st.sampled_from("abc")), min_size=1, max_size=60
)


@given(STEPS)
def test_whatever_happens_each_told_fire_is_ended_once_and_no_end_comes_alone(steps: list[tuple[str, str]]) -> None:
    clock, open_ = Clock(), set[str]()
    for step, thread in [*steps, *(("end", thread) for thread in "abc"), ("tick", "a")]:
        match step:
            case "fire":
                clock.fires(thread)
            case "end":
                clock.ends(thread)
            case _ if clock.group.born is not None:
                _, said = clock.tick(*([thread] if step == "muted" else []))
                fired = {one for one, status in said.items() if status == "firing"}
                ended = {one for one, status in said.items() if status == "resolved"}
                assert ended <= open_, "an end without its fire"
                open_ = (open_ | fired) - ended
    assert open_ == set(), "a fire whose end was never told"
    assert clock.group.born is None


@given(STEPS)
def test_a_group_comes_back_from_json_as_it_was(steps: list[tuple[str, str]]) -> None:
    clock = Clock()
    for step, thread in steps:
        if step in ("fire", "end"):
            clock.event(thread, "firing" if step == "fire" else "resolved")
        elif clock.group.born is not None:
            flushed = clock.meet()
            clock.group = flushed.group
            if flushed.reason:
                clock.group = flushed.pending(Notification(message="x"), "tick", clock.now)
                assert Group.model_validate_json(clock.group.model_dump_json()) == clock.group
                clock.group = sent(clock.group)
        assert Group.model_validate_json(clock.group.model_dump_json()) == clock.group
