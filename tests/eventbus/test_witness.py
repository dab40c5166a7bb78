"""What a process remembers of the log, and when that means that Redis went back."""

from __future__ import annotations

from eventbus.witness import MOST, Seen, Witness


def witness(*events: tuple[int, str]) -> Witness:
    """One that saw these events, in this order."""
    made = Witness()
    for sequence, entry_id in events:
        made.saw(sequence, entry_id)
    return made


def test_numbers_that_rise_with_their_places_are_no_roll_back() -> None:
    seen = witness((1, "9-0"), (2, "9-1"), (3, "9-10"), (4, "10-0"))
    assert seen.newest == Seen(4, "10-0")
    assert not seen.rolled_back
    assert not seen.alarm.is_set()


def test_an_event_that_comes_again_or_late_is_no_roll_back() -> None:
    assert not witness((1, "9-0"), (2, "9-1"), (2, "9-1"), (1, "9-0")).rolled_back


def test_an_event_that_was_only_scheduled_has_no_place_yet() -> None:
    assert witness((1, "9-0"), (0, "")).newest == Seen(1, "9-0")


def test_a_lower_number_at_a_later_place_is_a_roll_back() -> None:
    seen = witness((9, "9-9"), (7, "9-10"))
    assert list(seen.rolled_back) == [(7, 9)]
    assert seen.alarm.is_set()


def test_the_same_number_at_a_later_place_is_one_as_well() -> None:
    assert list(witness((9, "9-0"), (9, "10-0")).rolled_back) == [(9, 9)]


def test_an_event_that_was_lost_and_is_still_in_somebodys_hand_does_not_tell_of_it_twice() -> None:
    seen = witness((9, "9-0"), (5, "10-0"), (8, "8-0"), (6, "11-0"))
    assert list(seen.rolled_back) == [(5, 9)]


def test_each_time_that_it_goes_back_is_told() -> None:
    assert list(witness((9, "9-0"), (5, "10-0"), (6, "11-0"), (4, "12-0")).rolled_back) == [(5, 9), (4, 6)]


def test_a_redis_that_goes_back_for_ever_fills_no_memory() -> None:
    assert len(witness(*((n % 2 + 1, f"{n}-0") for n in range(1, 5 * MOST))).rolled_back) == MOST
