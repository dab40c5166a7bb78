"""The events of a silence, each with its time: it began, it will end soon, it has ended. Pure.

They are scheduled when the silence is made, as the times of groups are (docs/decisions/0019): so each is told once,
whatever workers come and go meanwhile. Their idempotency keys hold their times, so a silence that is changed or ended
by hand can take back those that have not come.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from eventbus import Event, catalog
from eventbus.topics.silence import SilenceEnded, SilenceExpiring, SilenceStarted
from registry.noise.mute import Silence

NOTICE = timedelta(minutes=15)
"""How long before its end a silence is told to expire; of a short one, the last quarter."""


def announcements(silence: Silence) -> list[tuple[Event[Any], datetime]]:
    """What will be told of a silence that is left alone, and when."""
    soon = silence.ends - min(NOTICE, (silence.ends - silence.starts) / 4)
    facts = _facts(silence)
    return [
        (_event(SilenceStarted(**facts), silence.starts), silence.starts),
        (_event(SilenceExpiring(**facts), soon), soon),
        (_event(SilenceEnded(**facts), silence.ends), silence.ends),
    ]


def ended_by_hand(silence: Silence) -> Event[Any]:
    """What is told of a silence that somebody ended at its `ends`."""
    return _event(SilenceEnded(**_facts(silence), by_hand=True), silence.ends)


def _facts(silence: Silence) -> dict[str, Any]:
    said = silence.model_dump(include={"by", "comment", "starts", "ends"})
    return {"silence": silence.id, "condition": silence.when.source, **said}


def _event(payload: SilenceStarted | SilenceExpiring | SilenceEnded, at: datetime) -> Event[Any]:
    once = f"{payload.__topic__}:{payload.silence}:{at.timestamp():.0f}"
    return catalog.event(payload, source="/registry/noise", time=at, idempotency_key=once)
