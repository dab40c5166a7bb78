"""The checker is checked: every kind of violation is found in a history that has it, and none in one that has not."""

from __future__ import annotations

from typing import Any

from tests.faults.checker import KEYED, SEARCHABLE, VIOLATIONS, Effect, Fault, Final, Group, Verdict, check

GROUPS = {
    "mail": Group(("a", "b"), ordered=True),
    "pager": Group(("b",), ordered=False),
    "desk": Group(("c",), ordered=True, effects=SEARCHABLE),
    "bank": Group(("d",), ordered=True, effects=KEYED),
}
Line = dict[str, Any]


def sent(*events: str, call: int = 1, topic: str = "a", plan: str = "do", delay: float = 0.0, t: float = 1.0) -> Line:
    """A publisher sends a batch of events, all of key k."""
    rows = [[event, "k", topic, plan, delay] for event in events]
    return {"op": "publish", "phase": "invoke", "name": "p", "pid": 1, "call": call, "t": t, "events": rows}


def answer(phase: str, *receipts: tuple[str, str, int], call: int = 1, t: float = 2.0) -> Line:
    """What became of the batch."""
    return {"op": "publish", "phase": phase, "name": "p", "pid": 1, "call": call, "t": t, "receipts": receipts}


def stored(*events: str, call: int = 1, start: int = 1, t: float = 2.0) -> Line:
    """The whole batch is stored, numbered from `start`."""
    return answer("ok", *((event, "stored", start + n) for n, event in enumerate(events)), call=call, t=t)


def began(event: str, *, t: float = 3.0, attempt: int = 1, pid: int = 7, group: str = "mail") -> Line:
    """A handler is called."""
    return {"op": "begin", "t": t, "pid": pid, "group": group, "event": event, "attempt": attempt}


def later(event: str, after: float, *, t: float = 3.0, attempt: int = 1) -> Line:
    """It asks for another attempt."""
    return {"op": "later", "t": t, "pid": 7, "group": "mail", "event": event, "attempt": attempt, "after": after}


def effect(event: str, sequence: int, *, group: str = "mail", at: float = 3.0, pid: int = 7) -> Effect:
    """The receiver was reached."""
    return Effect(event, "k", sequence, group, 1, pid, at)


def verdict(
    *history: Line, effects: tuple[Effect, ...] = (), faults: tuple[Fault, ...] = (), final: Final | None = None
) -> Verdict:
    """The checker's word."""
    return check(history, effects, faults, final or Final(), GROUPS, bound=5.0)


def only(found: Verdict, kind: str) -> bool:
    """One violation, of this kind."""
    return found.violations == {name: int(name == kind) for name in VIOLATIONS}


def test_a_faultless_history_has_no_violation() -> None:
    found = verdict(sent("1", "2"), stored("1", "2"), effects=(effect("1", 1), effect("2", 2)))
    assert found.is_good
    assert found.counts["accepted"] == found.counts["effects"] == 2


def test_an_accepted_event_without_effect_is_lost() -> None:
    found = verdict(sent("1", "2"), stored("1", "2"), effects=(effect("2", 2),))
    assert only(found, "lost")
    assert found.examples() == ["lost: 1 in mail"]


def test_an_event_is_lost_by_each_group_that_wants_it() -> None:
    found = verdict(sent("1", topic="b"), stored("1"), effects=(effect("1", 1),))
    assert found.examples() == ["lost: 1 in pager"]


def test_a_dead_letter_that_was_asked_for_is_not_lost() -> None:
    assert verdict(sent("1", plan="refuse"), stored("1"), final=Final(dead={"mail": ["1"]})).is_good


def test_a_dead_letter_that_nobody_asked_for_is_found() -> None:
    assert only(verdict(sent("1"), stored("1"), final=Final(dead={"mail": ["1"]})), "buried")


def test_an_unknown_event_may_happen_or_not() -> None:
    assert verdict(sent("1", "2"), answer("info"), effects=(effect("1", 1),)).counts["unknown_found_done"] == 1
    assert verdict(sent("1", "2"), effects=(effect("1", 1),)).counts["unknown"] == 2, "its publisher was killed"


def test_an_effect_of_a_refused_event_is_a_phantom() -> None:
    assert only(verdict(sent("1"), answer("fail"), effects=(effect("1", 1),)), "phantom")


def test_a_refusal_after_an_unknown_try_clears_nothing() -> None:
    history = (sent("1"), answer("info"), sent("1", call=2), answer("fail", call=2))
    assert verdict(*history, effects=(effect("1", 1),)).is_good


def test_an_effect_that_nobody_sent_is_a_phantom() -> None:
    assert only(verdict(effects=(effect("1", 1),)), "phantom")


def test_an_effect_in_a_group_that_does_not_want_the_topic_is_a_phantom() -> None:
    effects = (effect("1", 1), effect("1", 1, group="pager"))
    assert only(verdict(sent("1"), stored("1"), effects=effects), "phantom")


def test_two_places_in_the_log_are_a_duplicate() -> None:
    effects = (effect("1", 1), effect("1", 2))
    assert only(verdict(sent("1"), stored("1"), effects=effects), "duplicate")
    assert only(verdict(sent("1"), stored("1"), effects=effects[:1], final=Final(log={"1": 2})), "duplicate")


def test_an_effect_that_is_repeated_is_counted_and_no_violation() -> None:
    killed = Fault("kill worker", 7, 3.5, 3.5)
    effects = (effect("1", 1), effect("1", 1, at=4.0, pid=8))
    found = verdict(sent("1"), stored("1"), effects=effects, faults=(killed,))
    assert found.is_good
    assert found.counts["repeated_effects"] == 1
    assert found.reach["killed_between_effect_and_settle"] == 1


def test_an_effect_that_could_have_been_looked_up_and_was_repeated_is_found() -> None:
    effects = (effect("1", 1, group="desk"), effect("1", 1, group="desk"))
    assert only(verdict(sent("1", topic="c"), stored("1"), effects=effects), "twice")


def test_first_effects_out_of_the_logs_order_are_found() -> None:
    assert only(verdict(sent("1", "2"), stored("1", "2"), effects=(effect("2", 2), effect("1", 1))), "order")


def test_a_repeated_effect_may_come_late() -> None:
    effects = (effect("1", 1), effect("2", 2), effect("1", 1))
    assert verdict(sent("1", "2"), stored("1", "2"), effects=effects).is_good


def test_a_group_without_order_keeps_none() -> None:
    pager = (effect("2", 2, group="pager"), effect("1", 1, group="pager"))
    history = (sent("1", "2", topic="b"), stored("1", "2"))
    assert verdict(*history, effects=(effect("1", 1), effect("2", 2), *pager)).is_good


def test_a_log_that_is_not_in_its_publishers_order_is_found() -> None:
    history = (sent("1"), stored("1", start=2), sent("2", call=2), stored("2", call=2, start=1))
    assert only(verdict(*history, effects=(effect("2", 1), effect("1", 2))), "order")


def test_a_retry_before_its_time_is_early() -> None:
    history = (sent("1"), stored("1"), began("1"), later("1", 2.0))
    done = (effect("1", 1, at=6.0),)
    assert only(verdict(*history, began("1", t=4.9, attempt=2), effects=done), "early")
    assert verdict(*history, began("1", t=5.0, attempt=2), effects=done).is_good


def test_a_take_over_before_the_retry_was_stored_is_not_early() -> None:
    history = (sent("1"), stored("1"), began("1"), later("1", 2.0), began("1", t=3.5, pid=8))
    found = verdict(*history, effects=(effect("1", 1, at=4.0),))
    assert found.is_good
    assert found.reach["taken_over"] == 1


def test_a_scheduled_event_before_its_time_is_early() -> None:
    history = (sent("1", delay=4.0), stored("1"))
    assert only(verdict(*history, began("1", t=4.9), effects=(effect("1", 1),)), "early")
    assert verdict(*history, began("1", t=5.0), effects=(effect("1", 1),)).is_good


def test_unfinished_work_at_the_end_is_stuck() -> None:
    assert only(verdict(final=Final(unfinished={"mail": 3})), "stuck")


def alarm(*, t: float) -> Line:
    """The bus says that something is missing."""
    return {"op": "gap", "t": t, "pid": 7, "kind": "rolled back", "count": 1}


def test_what_the_disk_lost_is_excused_when_an_alarm_tells_of_it() -> None:
    cut = Fault("cut power", 0, 2.5, 3.5, lost=1)
    found = verdict(sent("1"), stored("1"), alarm(t=4.0), faults=(cut,))
    assert found.is_good
    assert found.counts["lost"] == 1


def test_a_loss_without_an_alarm_is_silent() -> None:
    cut = Fault("cut power", 0, 2.5, 3.5, lost=1)
    assert only(verdict(sent("1"), stored("1"), alarm(t=2.4), faults=(cut,)), "silent"), "that was before"
    assert only(verdict(sent("1"), stored("1"), alarm(t=8.6), faults=(cut,)), "silent"), "the bound is 5 seconds"


def test_an_alarm_without_a_loss_is_false() -> None:
    assert only(verdict(sent("1"), stored("1"), alarm(t=4.0), effects=(effect("1", 1),)), "false alarm")


def test_a_worker_is_recovered_from_when_all_it_had_begun_is_done() -> None:
    history = (sent("1", "2"), stored("1", "2"), began("1"), began("2"))
    killed = Fault("kill worker", 7, 3.5, 3.5)
    found = verdict(*history, effects=(effect("1", 1, at=4.0, pid=8), effect("2", 2, at=6.5, pid=8)), faults=(killed,))
    assert found.recovery == [("kill worker", 3.0)]
    assert found.is_good


def test_an_outage_is_recovered_from_when_something_accepted_since_is_handled() -> None:
    outage = Fault("kill redis", 0, 1.5, 2.5)
    history = (sent("1"), stored("1", t=1.0), sent("2", call=2), stored("2", call=2, start=2, t=3.0))
    handled = (began("1", t=2.6), began("2", t=8.0))
    found = verdict(*history, *handled, effects=(effect("1", 1), effect("2", 2, at=8.0)), faults=(outage,))
    assert found.recovery == [("kill redis", 5.5)]
    assert only(found, "slow"), "the bound is 5 seconds"


def test_a_repeated_effect_that_the_receiver_knows_by_its_key_is_never_excused() -> None:
    twice = (effect("1", 1, group="bank"), effect("1", 1, group="bank"))
    frozen = Fault("stop worker", 7, 1.0, 9.0)
    found = verdict(sent("1", topic="d"), stored("1"), effects=twice, faults=(frozen, over(2.5, 3.5)))
    assert only(found, "twice")


def may(*, t: float, pid: int = 7, group: str = "desk", sequence: int = 1) -> Line:
    """The ledger permits an action."""
    return {"op": "may", "t": t, "pid": pid, "group": group, "sequence": sequence}


def doubled(*history: Line, frozen: Fault, late: float = 6.0) -> Verdict:
    """Process 8 took over from process 7, which makes its effect all the same."""
    effects = (effect("1", 1, group="desk", at=5.0, pid=8), effect("1", 1, group="desk", at=late, pid=7))
    return verdict(sent("1", topic="c"), stored("1"), *history, effects=effects, faults=(frozen,))


def test_a_worker_that_was_frozen_between_permission_and_effect_acts_late_and_is_counted() -> None:
    found = doubled(may(t=3.0), frozen=Fault("stop worker", 7, 3.1, 5.9))
    assert found.is_good
    assert found.counts["late_by_a_frozen_worker"] == 1


def test_it_acts_late_too_when_the_other_one_acts_after_it() -> None:
    effects = (effect("1", 1, group="desk", at=5.0, pid=7), effect("1", 1, group="desk", at=5.1, pid=8))
    frozen = Fault("stop worker", 7, 3.1, 4.9)
    found = verdict(sent("1", topic="c"), stored("1"), may(t=3.0), effects=effects, faults=(frozen,))
    assert found.is_good
    assert found.counts["late_by_a_frozen_worker"] == 1


def test_who_was_frozen_before_its_permission_has_no_excuse() -> None:
    assert only(doubled(may(t=5.95), frozen=Fault("stop worker", 7, 3.1, 5.9)), "twice")
    assert only(doubled(may(t=3.0), may(t=5.95), frozen=Fault("stop worker", 7, 3.1, 5.9)), "twice")
    assert only(doubled(frozen=Fault("stop worker", 7, 3.1, 5.9)), "twice"), "it never had a permission"


def test_who_was_frozen_for_less_than_a_permission_may_be_old_has_no_excuse() -> None:
    assert only(doubled(may(t=3.0), frozen=Fault("stop worker", 7, 4.9, 5.8)), "twice")


def test_the_freeze_of_another_worker_is_no_excuse() -> None:
    assert only(doubled(may(t=3.0), frozen=Fault("stop worker", 9, 3.1, 5.9)), "twice")


def over(start: float, heal: float) -> Fault:
    """A replica takes over."""
    return Fault("fail over", 0, start, heal)


def test_a_fail_over_excuses_what_was_done_shortly_before_it() -> None:
    effects = (effect("1", 1, group="desk", at=3.0), effect("1", 2, group="desk", at=6.0))
    found = verdict(sent("1", topic="c"), stored("1", start=2), effects=effects, faults=(over(3.5, 5.0),))
    assert found.is_good
    assert found.counts["forgotten_by_a_fail_over"] == 1
    assert found.recovery == []


def test_a_fail_over_excuses_nothing_that_was_done_long_before_or_after_it() -> None:
    history = (sent("1", topic="c"), stored("1"))
    effects = (effect("1", 1, group="desk", at=3.0), effect("1", 1, group="desk", at=9.0))
    assert only(verdict(*history, effects=effects, faults=(over(5.5, 6.0),)), "twice")
    assert only(verdict(*history, effects=effects, faults=(over(1.0, 2.0),)), "twice")
    moved = (effect("1", 1, at=3.0), effect("1", 2, at=9.0))
    assert only(verdict(sent("1"), stored("1"), effects=moved, faults=(over(5.5, 6.0),)), "duplicate")
    swapped = (effect("2", 2, at=3.0), effect("1", 1, at=3.1))
    assert only(verdict(sent("1", "2"), stored("1", "2"), effects=swapped, faults=(over(5.5, 6.0),)), "order")


def test_what_a_replica_confirmed_is_not_excused_by_a_fail_over() -> None:
    assert only(verdict(sent("1"), stored("1"), faults=(over(2.5, 3.0),)), "lost")


def test_an_alarm_after_a_fail_over_is_none_of_the_false_ones() -> None:
    history = (sent("1"), stored("1"))
    assert verdict(*history, alarm(t=4.0), effects=(effect("1", 1),), faults=(over(2.5, 3.0),)).is_good
    assert only(verdict(*history, alarm(t=9.0), effects=(effect("1", 1),), faults=(over(2.5, 3.0),)), "false alarm")


def test_a_fail_over_is_recovered_from_since_the_master_died() -> None:
    history = (sent("1"), stored("1", t=3.0), began("1", t=8.0))
    found = verdict(*history, effects=(effect("1", 1, at=8.0),), faults=(over(2.5, 4.0),))
    assert found.recovery == [("fail over", 5.5)]
    assert found.is_good, "until a replica is back nothing can be confirmed"
    alone = Fault("no replica", 0, 2.5, 2.9)
    slow = verdict(*history, effects=(effect("1", 1, at=8.0),), faults=(alone,))
    assert only(slow, "slow"), "the bound is 5 seconds"


def test_a_spooled_event_has_to_arrive_and_in_the_order_of_asking() -> None:
    spooled = (sent("1"), answer("ok", ("1", "spooled", 0)), sent("2", call=2), stored("2", call=2, start=1))
    assert only(verdict(*spooled, effects=(effect("2", 1),)), "lost")
    overtaken = verdict(*spooled, effects=(effect("2", 1), effect("1", 2)))
    assert only(overtaken, "order")
    assert overtaken.counts["accepted_by_a_spool"] == 1


def test_a_spooled_event_that_outlived_its_publisher_is_counted() -> None:
    history = (sent("1"), answer("ok", ("1", "spooled", 0), t=2.0))
    killed = Fault("kill who spools", 0, 1.5, 2.5)
    found = verdict(*history, effects=(effect("1", 1, at=3.0),), faults=(killed,))
    assert found.reach["spool_left_by_a_killed_program"] == 1
    before = verdict(*history, effects=(effect("1", 1, at=2.2),), faults=(killed,))
    assert before.reach["spool_left_by_a_killed_program"] == 0
