"""`approval.*`: people were asked for a decision, and what came of it. Ordered by approval.

Exactly one of `granted`, `rejected` and `expired` ends an approval: they share an idempotency key.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from eventbus.payload import Payload

EXAMPLE = {"approval_id": "4f1c9c2a", "title": "Deploy 1.4.2 to production?", "subject": "deploy:1.4.2"}


class Vote(BaseModel):
    """What one person decided."""

    model_config = ConfigDict(frozen=True)

    user_id: str = Field(description="Who, by the id of the service that asked")
    decision: Literal["approve", "reject"] = Field(description="What they chose")
    at: AwareDatetime = Field(description="When")

    @classmethod
    def example(cls) -> Vote:
        return cls(user_id="U0ADA", decision="approve", at=datetime(2026, 1, 12, 10, 30, tzinfo=UTC))


class _Approval(Payload):
    approval_id: str = Field(description="Identifies the approval; its events are handled in order")
    title: str = Field(description="What was asked")
    subject: str = Field(default="", description="What it is about, as whoever asked named it")


class ApprovalVoted(_Approval, topic="approval.voted", key="approval_id"):
    """Somebody who may decide did so."""

    vote: Vote = Field(description="Who, what and when")

    @classmethod
    def example(cls) -> ApprovalVoted:
        return cls(**EXAMPLE, vote=Vote.example())


class ApprovalDue(_Approval, topic="approval.due", key="approval_id"):
    """The time for a decision is over; `approval.expired` follows if there is none."""

    @classmethod
    def example(cls) -> ApprovalDue:
        return cls(**EXAMPLE)


class _Ended(_Approval):
    votes: tuple[Vote, ...] = Field(default=(), description="Every vote that counted, in order")


class ApprovalGranted(_Ended, topic="approval.granted", key="approval_id"):
    """As many people as were needed approved."""

    @classmethod
    def example(cls) -> ApprovalGranted:
        return cls(**EXAMPLE, votes=(Vote.example(),))


class ApprovalRejected(_Ended, topic="approval.rejected", key="approval_id"):
    """One person who may decide rejected it."""

    @classmethod
    def example(cls) -> ApprovalRejected:
        return cls(**EXAMPLE, votes=(Vote.example().model_copy(update={"decision": "reject"}),))


class ApprovalExpired(_Ended, topic="approval.expired", key="approval_id"):
    """Nobody decided in time, or too few."""

    @classmethod
    def example(cls) -> ApprovalExpired:
        return cls(**EXAMPLE, votes=())
