"""Approvals: who may decide until when, who did, and what that comes to. The rows are kept in the integration's store.

Votes are rows of their own, so that people who press at the same moment do not overwrite each other: each writes its
row, then reads all. They are forgotten with the end, which names those that counted; a store lists no rows that end by
themselves. What votes come to may be found twice; of all ends, which share an idempotency key, the bus takes one.
Nothing here calls Slack.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.topics.approval import (
    ApprovalDue,
    ApprovalExpired,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalVoted,
    Vote,
)
from integrations.base import Store

KEPT = timedelta(days=30)
"""How long an approval is known after its end: for late clicks."""

APPROVAL_BLOCK = "approval:"
"""What the id of the block with its buttons begins with; the approval's id follows."""

Standing = Literal["open", "granted", "rejected", "expired"]
Decision = Literal["approve", "reject"]

UserId = Annotated[str, Field(pattern=r"^[UW][A-Z0-9]{1,30}$")]


class Approval(BaseModel):
    """The content of an artifact `approval`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"title": "Deploy 118 to production?", "quorum": 2, "expires_in": "PT4H"}]},
    )

    title: str = Field(min_length=1, max_length=140, description="What is asked, on one line")
    text: str = Field(default="", max_length=3000, description="What people need to know to decide")
    subject: str = Field(default="", max_length=200, description="What it is about; told in every event about it")
    channel: str = Field(default="", description="Where: #name, name or id; empty: default_channel")
    approvers: tuple[UserId, ...] = Field(default=(), max_length=20, description="Ids of who may decide; none: anybody")
    quorum: int = Field(default=1, ge=1, le=20, description="How many different people have to approve; one rejects")
    expires_in: timedelta = Field(
        default=timedelta(days=1), ge=timedelta(seconds=1), le=timedelta(days=30), description="Time for a decision"
    )

    @model_validator(mode="after")
    def _can_be_granted(self) -> Self:
        if self.approvers and self.quorum > len(set(self.approvers)):
            raise ValueError(f"quorum is {self.quorum}, and approvers names {len(set(self.approvers))}")
        return self


class Asked(BaseModel):
    """An approval that was asked for. `ended`: what it came to, once that was published."""

    id: str
    what: Approval
    expires_at: datetime
    ended: Literal["", "granted", "rejected", "expired"] = ""


def standing(asked: Asked, votes: Sequence[Vote], now: datetime) -> Standing:
    """What the votes come to. Pure; the earliest votes decide."""
    if asked.ended:
        return asked.ended
    approved = 0
    for vote in _in_order(votes):
        approved += vote.decision == "approve"
        if vote.decision == "reject":
            return "rejected"
        if approved >= asked.what.quorum:
            return "granted"
    return "open" if now < asked.expires_at else "expired"


class Posted(BaseModel):
    """Where its message stands. A row of its own: it is written while people may vote already."""

    channel: str
    ts: str


class Approvals:
    """Those of one account."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def ask(self, id_: str, what: Approval) -> Asked:
        """Remember it before it is posted, so that no click comes too early. A later attempt finds the first one's."""
        asked = await self.get(id_)
        if asked is None:
            asked = Asked(id=id_, what=what, expires_at=datetime.now(UTC) + what.expires_in)
            await self.keep(asked)
        return asked

    async def get(self, id_: str) -> Asked | None:
        row = await self._store.get(f"approval:{id_}")
        return None if row is None else Asked.model_validate(row)

    async def keep(self, asked: Asked) -> None:
        """Remember how it stands; what ended needs no votes any more."""
        row: JsonValue = asked.model_dump(mode="json")
        await self._store.put(f"approval:{asked.id}", row, lifetime=self._left(asked))
        if asked.ended:
            for name in await self._store.items(f"vote:{asked.id}:"):
                await self._store.delete(name)

    async def posted(self, asked: Asked, channel: str, ts: str) -> None:
        await self._store.put(f"posted:{asked.id}", {"channel": channel, "ts": ts}, lifetime=self._left(asked))

    async def place(self, id_: str) -> Posted | None:
        row = await self._store.get(f"posted:{id_}")
        return None if row is None else Posted.model_validate(row)

    async def votes(self, id_: str) -> list[Vote]:
        """In order."""
        rows = await self._store.items(f"vote:{id_}:")
        return _in_order([Vote.model_validate(row) for row in rows.values()])

    async def press(self, id_: str, user: str, decision: Decision, at: datetime) -> tuple[list[Event[Any]], bool]:
        """What a click is published as, and whether it counts; where it does not, its sender should be told why.

        The second click of a person does not count, and gives the events of the first one again: they may not have been
        published.
        """
        asked = await self.get(id_)
        if asked is None or (asked.what.approvers and user not in asked.what.approvers):
            return [], False
        votes = await self.votes(id_)
        mine = next((vote for vote in votes if vote.user_id == user), None)
        counts = mine is None
        if mine is None:
            stands = standing(asked, votes, at)
            if stands != "open":
                return ([ended_event(asked, votes, stands)] if stands == "expired" and not asked.ended else []), False
            mine = Vote(user_id=user, decision=decision, at=at)
            row: JsonValue = mine.model_dump(mode="json")
            await self._store.put(f"vote:{id_}:{user}", row)
            votes = await self.votes(id_)
        elif asked.ended or mine.decision != decision:
            return [], False
        events = [_event(ApprovalVoted(**_about(asked), vote=mine), f"approval:{id_}:{user}", mine.at)]
        stands = standing(asked, votes, mine.at)
        return (events if stands == "open" else [*events, ended_event(asked, votes, stands)]), counts

    def _left(self, asked: Asked) -> timedelta:
        return max(asked.expires_at - datetime.now(UTC), timedelta()) + KEPT


def due_event(asked: Asked) -> Event[Any]:
    """To be published when the time is over."""
    return _event(ApprovalDue(**_about(asked)), f"approval:{asked.id}:due", asked.expires_at)


def ended_event(asked: Asked, votes: Sequence[Vote], stands: Standing) -> Event[Any]:
    """The end of an approval. All its ends share one idempotency key: the first that is published is the truth."""
    counted = tuple(_counted(asked, votes))
    key, when = f"approval:{asked.id}", counted[-1].at if counted else asked.expires_at
    if stands == "granted":
        return _event(ApprovalGranted(**_about(asked), votes=counted), key, when)
    if stands == "rejected":
        return _event(ApprovalRejected(**_about(asked), votes=counted), key, when)
    return _event(ApprovalExpired(**_about(asked), votes=counted), key, asked.expires_at)


def _counted(asked: Asked, votes: Sequence[Vote]) -> list[Vote]:
    """The votes up to the one that decided."""
    ordered, open_ = _in_order(votes), asked.model_copy(update={"ended": ""})
    for end in range(1, len(ordered)):
        if standing(open_, ordered[:end], ordered[end - 1].at) != "open":
            return ordered[:end]
    return ordered


def _in_order(votes: Sequence[Vote]) -> list[Vote]:
    return sorted(votes, key=lambda vote: (vote.at, vote.user_id))


def _about(asked: Asked) -> dict[str, Any]:
    return {"approval_id": asked.id, "title": asked.what.title, "subject": asked.what.subject}


def _event(payload: Any, key: str, time: datetime) -> Event[Any]:
    return catalog.event(payload, source="/slack", idempotency_key=key, time=time)
