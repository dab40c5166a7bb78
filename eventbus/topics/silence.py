"""`silence.*`: that people made a silence, that it will end soon, and that it has ended.

Published by `registry.noise`, each once over all processes, at its time. No silence mutes what is told of them.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import AwareDatetime, Field

from eventbus.payload import Payload


class _Silence(Payload):
    silence: str = Field(description="Its id, for eventbus silence")
    condition: str = Field(description="What it holds of")
    by: str = Field(default="", description="Who wanted it")
    comment: str = Field(default="", description="Why")
    starts: AwareDatetime = Field(description="When it begins to hold")
    ends: AwareDatetime = Field(description="When it holds no more")


class SilenceStarted(_Silence, topic="silence.started", key="silence"):
    """What a condition holds of is not told of from now on."""

    @classmethod
    def example(cls) -> SilenceStarted:
        return cls(**_EXAMPLE)


class SilenceExpiring(_Silence, topic="silence.expiring", key="silence"):
    """A silence will end soon: whoever still needs the quiet makes another."""

    @classmethod
    def example(cls) -> SilenceExpiring:
        return cls(**_EXAMPLE)


class SilenceEnded(_Silence, topic="silence.ended", key="silence"):
    """What still fires is told of again."""

    by_hand: bool = Field(default=False, description="Somebody ended it before its time")

    @classmethod
    def example(cls) -> SilenceEnded:
        return cls(**_EXAMPLE)


_EXAMPLE = {
    "silence": "4f1c9c2a",
    "condition": 'data.environment == "staging"',
    "by": "ada",
    "comment": "load test",
    "starts": datetime(2026, 1, 12, 10, 0, tzinfo=UTC),
    "ends": datetime(2026, 1, 12, 12, 0, tzinfo=UTC),
}
