"""What a subscriber asks for, what its handler is given, and what the handler may answer.

A handler is called with the event, or with the event and its `Attempt` when it takes two arguments. Returning means
done. Raising means: `TryLater` again when it says, `Refused` never again, anything else again after a back-off until
the attempts are used up.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from eventbus.backoff import Backoff
from eventbus.errors import Misconfigured
from eventbus.event import new_id
from eventbus.pattern import check_pattern, check_topic

MAX_PART = 2**64 - 1  # of the second half of a stream id


class TryLater(Exception):
    """Raised by a handler: not done, try again.

    after    the earliest time of the next attempt, from now; None: the subscription's back-off
    counts   False when this attempt must not use up one of the allowed ones
    pause    True when the whole group has to wait that long (a rate limit of the account)
    """

    def __init__(
        self, reason: str, *, after: timedelta | None = None, counts: bool = True, pause: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after
        self.counts = counts
        self.pause = pause


class Refused(Exception):
    """Raised by a handler: it shall not be tried again. The delivery goes to the dead letters.

    kind  rejected: it can never be done; unknown: nobody can say whether it was done, a person has to
    """

    def __init__(self, reason: str, *, kind: Literal["rejected", "unknown"] = "rejected") -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one delivery. (group, entry_id, consumer, fence) prove that it is still ours; see `ledger`."""

    group: str
    entry_id: str
    consumer: str
    fence: int
    number: int
    sequence: int


Handler = Callable[..., Awaitable[Any] | Any]
Start = Literal["earliest", "now"] | datetime


def start_behind(start: Start) -> str:
    """The log's id behind which a group starts. Ids begin with the server's time in milliseconds."""
    if start == "earliest":
        return "0"
    if start == "now":
        return "$"
    if start.tzinfo is None:
        raise Misconfigured("start needs a time zone, such as datetime.now(UTC) - timedelta(hours=1)")
    before = max(0, round(start.timestamp() * 1000) - 1)
    return f"{before}-{MAX_PART}" if before else "0"


@dataclass(frozen=True, slots=True)
class Options:
    """How a durable subscription is served.

    concurrency   handlers at a time, in this process
    ordered       events with equal key one after another, over all processes
    max_attempts  counted attempts before the dead letters
    backoff       between them
    timeout       for one attempt; None: as long as it takes (the lease is renewed meanwhile)
    poison_limit  deaths of a process with this event in hand before the dead letters
    start         where a new group starts: at the earliest event kept, now, or at a time
    """

    concurrency: int = 32
    ordered: bool = True
    max_attempts: int = 10
    backoff: Backoff = field(default_factory=Backoff)
    timeout: timedelta | None = None
    poison_limit: int = 3
    start: Start = "earliest"

    def __post_init__(self) -> None:
        for name in ("concurrency", "max_attempts", "poison_limit"):
            if getattr(self, name) < 1:
                raise Misconfigured(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Subscription:
    """Patterns and a handler; durable when it has a group, live when not."""

    patterns: tuple[str, ...]
    handler: Handler
    group: str | None
    options: Options
    call: Callable[..., Awaitable[Any]]
    wants_attempt: bool
    is_async: bool
    id: str = field(default_factory=new_id)

    @classmethod
    def of(cls, patterns: str | tuple[str, ...], handler: Handler, group: str | None, options: Options) -> Subscription:
        """Check and normalise. Raises Misconfigured for a bad pattern or group name."""
        each = (patterns,) if isinstance(patterns, str) else tuple(patterns)
        if not each:
            raise Misconfigured("a subscription needs at least one pattern, such as vm.*")
        for pattern in each:
            check_pattern(pattern)
        if group is not None:
            try:
                check_topic(group)
            except Exception as error:
                raise Misconfigured(
                    f"{group!r} is not a group name: use the letters of a topic, such as slack"
                ) from error
        is_async = _is_async(handler)
        if options.timeout is not None and not is_async:
            raise Misconfigured(
                "timeout: a plain function can't be interrupted, it would go on beside its next attempt: "
                "make the handler an async function, or bound what it waits for"
            )
        call = handler if is_async else _in_threads(handler, group, options.concurrency)
        return cls(each, handler, group, options, call, _takes_two(handler), is_async)


def _is_async(handler: Handler) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004


def _in_threads(handler: Handler, group: str | None, most: int) -> Callable[..., Awaitable[Any]]:
    """A plain function may block: it runs in threads of its subscription's own, so that it holds nobody else up."""
    threads: ThreadPoolExecutor | None = None

    def guarded(*arguments: Any) -> Any:
        try:
            return handler(*arguments)
        except StopIteration as error:  # a future can't carry it: its waiter would wait for ever
            raise RuntimeError(f"the handler raised StopIteration: {error}") from error

    async def call(*arguments: Any) -> None:
        nonlocal threads
        if threads is None:
            threads = ThreadPoolExecutor(most, thread_name_prefix=group or "live")
        context = contextvars.copy_context()
        result = await asyncio.get_running_loop().run_in_executor(threads, context.run, guarded, *arguments)
        if inspect.isawaitable(result):
            await result

    return call


def _takes_two(handler: Handler) -> bool:
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [
        p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    return len(positional) >= 2


def is_quiet(topic: str) -> bool:
    """Topics whose dead letters are not announced: an announcement about an announcement would never end."""
    return topic.startswith(("delivery.", "integration."))
