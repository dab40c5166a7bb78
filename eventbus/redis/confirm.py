"""When a write counts as safe: in Redis' memory, on its disk, or at its replicas; and how Redis is made to say so.

The conversation is a generator of batches of commands, each answered by its replies, so that the asynchronous and the
synchronous connection hold the same one. A batch begins with the write and ends with the question, on one connection:
WAIT and WAITAOF speak of what their own connection wrote (redis.io/commands/wait), so a batch is never split.

Level aof asks WAITAOF; where the server says `appendfsync always` it asks nothing: that reply comes after the fsync
(redis.conf), and WAITAOF would be answered up to 100 ms later, by the next turn of Redis' clock. The policy is not in
INFO, and CONFIG may be forbidden: then WAITAOF is asked.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from redis.exceptions import NoScriptError, ResponseError

from eventbus.errors import OutcomeUnknown
from eventbus.redis.scripts import Arg

Durability = Literal["memory", "aof", "replica"]
Command = tuple[Arg, ...]
Conversation = Generator[list[Command], list[Any], Any]

POLICY: Command = ("CONFIG", "GET", "append*")


@dataclass(frozen=True, slots=True)
class Confirm:
    """What has to be confirmed, and how long Redis may take to. `replicas` counts at level replica."""

    level: Durability = "memory"
    replicas: int = 1
    timeout: timedelta = timedelta(seconds=3)

    @property
    def milliseconds(self) -> int:
        """For Redis, to which 0 would mean for ever."""
        return max(1, int(self.timeout.total_seconds() * 1000))


class Witness:
    """How one server is asked whether a write is safe. `forget` when it may be another one."""

    def __init__(self) -> None:
        self._always: bool | None = None  # appendfsync; None: not asked yet

    def forget(self) -> None:
        """Ask for the policy again."""
        self._always = None

    def write(self, command: Command, confirm: Confirm, *, otherwise: Command | None = None) -> Conversation:
        """Hold the conversation about one write; `otherwise` replaces a script that the server does not know yet.

        Returns the write's own reply. Raises the write's own error, and OutcomeUnknown where it was not confirmed.
        """
        if confirm.level == "aof" and self._always is None:
            (policy,) = yield [POLICY]
            self._always = is_always(policy)
        question = self._question(confirm)
        replies = yield [command, question]
        if isinstance(replies[0], NoScriptError) and otherwise is not None:
            replies = yield [otherwise, question]
        if isinstance(replies[0], Exception):
            raise replies[0]
        if missing := _missing(replies[1], confirm, question):
            self.forget()
            raise OutcomeUnknown(f"Redis took it, but {missing}; repeat it: it is stored once")
        return replies[0]

    def _question(self, confirm: Confirm) -> Command:
        if confirm.level == "replica":
            return ("WAIT", confirm.replicas, confirm.milliseconds)
        return POLICY if self._always else ("WAITAOF", 1, 0, confirm.milliseconds)


def _missing(reply: Any, confirm: Confirm, question: Command) -> str:
    """What was not confirmed; '' when all was."""
    if isinstance(reply, ResponseError):
        return f"{question[0]!s} was refused: {str(reply)[:200]}"
    if question == POLICY:
        return "" if is_always(reply) else "its appendfsync is no longer always"
    if confirm.level == "replica":
        return "" if reply >= confirm.replicas else f"{reply} of {confirm.replicas} replicas confirmed it"
    return "" if reply[0] >= 1 else f"its disk did not confirm it within {confirm.timeout.total_seconds():g} s"


def is_always(reply: Any) -> bool:
    """Whether every write is on disk before its reply. A refusal (CONFIG is forbidden) means: not known to be."""
    if isinstance(reply, Exception):
        return False
    told = dict(zip(reply[::2], reply[1::2], strict=True))
    return told.get(b"appendonly") == b"yes" and told.get(b"appendfsync") == b"always"


def evalsha(sha: str, text: str, keys: Sequence[str], args: Sequence[Arg]) -> tuple[Command, Command]:
    """A script by its hash, and by its text."""
    rest = (len(keys), *keys, *args)
    return ("EVALSHA", sha, *rest), ("EVAL", text, *rest)
