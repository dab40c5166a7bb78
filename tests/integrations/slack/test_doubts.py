from __future__ import annotations

import pytest

from eventbus.topics import SlackAction
from integrations.slack.doubts import DOUBT_BLOCK, Decision, decision, value_of

PRESSED = SlackAction(action_id="done", user_id="U0ADA", value=value_of(f"{DOUBT_BLOCK}hook.billing/17-0", "e 1"))


def test_a_press_says_which_call_what_became_of_it_and_who_says_so() -> None:
    made = decision(PRESSED)
    assert made == Decision("hook.billing/17-0", "e 1", "done", "U0ADA")
    assert made.group == "hook.billing"


@pytest.mark.parametrize(
    "missing", [{"user_id": None}, {"action_id": "delete"}, {"value": None}, {"value": "hook/1-0"}, {"value": " e-1"}]
)
def test_a_press_that_does_not_say_all_of_it_decides_nothing(missing: dict[str, str | None]) -> None:
    assert decision(PRESSED.model_copy(update=missing)) is None
