"""The buttons of calls in doubt: what a press says, to which call, by whom. Pure.

They are told from other buttons by the id of their block, which only we give (docs.slack.dev, Blocks, `block_id`), so
that no button of a notification can resolve anything. Who may press them is in the settings; `integrations.doubts` is
where the answer goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from eventbus.topics import SlackAction
from integrations.doubts import As

DOUBT_BLOCK = "unknown:"
"""What the id of the block with the buttons of one call begins with; the doubt's id follows."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody pressed."""

    doubt_id: str
    event_id: str
    how: As
    by: str

    @property
    def group(self) -> str:
        """The integration in doubt, with its target."""
        return self.doubt_id.rpartition("/")[0]


def is_decision(block_id: str, action_id: str) -> bool:
    """Whether it is one of these buttons."""
    return block_id.startswith(DOUBT_BLOCK) and action_id in get_args(As)


def value_of(block_id: str, event_id: str) -> str:
    """What the press is published with; `decision` takes it apart."""
    return f"{block_id.removeprefix(DOUBT_BLOCK)} {event_id}"


def decision(pressed: SlackAction) -> Decision | None:
    """What a press says; None where it does not say all of it."""
    doubt_id, _, event_id = (pressed.value or "").partition(" ")
    for how in get_args(As):
        if pressed.action_id == how and doubt_id and event_id and pressed.user_id:
            return Decision(doubt_id, event_id, how, pressed.user_id)
    return None
