"""What a subscription accepts, and which callables are handlers."""

from __future__ import annotations

import asyncio
import functools
import threading
from datetime import timedelta
from typing import Any

import pytest

from eventbus import Attempt, Event, Misconfigured, Options, Refused, TryLater
from eventbus.subscription import Subscription, is_quiet


async def one(event: Event[Any]) -> None: ...


async def two(event: Event[Any], attempt: Attempt) -> None: ...


async def optional(event: Event[Any], colour: str = "red") -> None: ...


async def named_only(event: Event[Any], *, colour: str = "red") -> None: ...


class Handling:
    async def __call__(self, event: Event[Any], attempt: Attempt) -> None: ...

    async def method(self, event: Event[Any]) -> None: ...


def of(handler: Any, patterns: str | tuple[str, ...] = "vm.*", group: str | None = "billing") -> Subscription:
    return Subscription.of(patterns, handler, group, Options())


@pytest.mark.parametrize(
    ("handler", "wants"),
    [
        (one, False),
        (two, True),
        (optional, False),
        (named_only, False),
        (Handling(), True),
        (Handling().method, False),
        (functools.partial(two, Event(topic="custom.x", data={})), False),
        (lambda event, attempt: None, True),
    ],
)
def test_a_handler_that_needs_two_arguments_gets_the_attempt(handler: Any, wants: bool) -> None:
    assert of(handler).wants_attempt is wants


async def test_a_plain_function_runs_in_a_thread() -> None:
    where: list[int] = []

    await of(lambda event: where.append(threading.get_ident())).call(None)

    assert where != [threading.get_ident()]


async def test_a_coroutine_that_a_plain_function_returns_is_awaited() -> None:
    seen: list[Any] = []

    async def later(event: Any) -> None:
        seen.append(event)

    await of(lambda event: later(event)).call(1)

    assert seen == [1]


async def test_a_plain_function_that_raises_stop_iteration_ends_with_an_error() -> None:
    """A future can't carry it: who waits for the thread would wait for ever."""

    def first(event: Any) -> Any:
        return next(iter(event))

    async with asyncio.timeout(5):
        with pytest.raises(RuntimeError, match="the handler raised StopIteration: "):
            await of(first).call([])


async def test_plain_functions_of_one_subscription_have_threads_of_their_own() -> None:
    """As many as may run at a time: the loop's own pool is small, and shared by everybody."""
    gate = threading.Event()
    slow, fast = of(lambda event: gate.wait(), group="slow"), of(lambda event: event, group="fast")
    blocked = asyncio.gather(*(slow.call(None) for _ in range(Options().concurrency)))
    await asyncio.sleep(0)  # they have begun
    try:
        async with asyncio.timeout(5):
            await fast.call(None)
    finally:
        gate.set()
        await blocked


@pytest.mark.parametrize("handler", [lambda event: None, functools.partial(print)])
def test_a_time_limit_that_nothing_could_keep_is_refused(handler: Any) -> None:
    options = Options(timeout=timedelta(seconds=1))

    with pytest.raises(Misconfigured, match="timeout: a plain function can't be interrupted"):
        Subscription.of("vm.*", handler, "billing", options)
    assert Subscription.of("vm.*", one, "billing", options).is_async
    assert Subscription.of("vm.*", Handling(), "billing", options).is_async


@pytest.mark.parametrize("option", ["concurrency", "max_attempts", "poison_limit"])
def test_a_count_of_zero_is_refused(option: str) -> None:
    zero: dict[str, Any] = {option: 0}

    with pytest.raises(Misconfigured, match=f"{option} must be at least 1, not 0"):
        Options(**zero)


@pytest.mark.parametrize("pattern", ["", "Vm.*", "vm.>.created", "vm*", "*vm", "vm..x", "vm created", ">.vm"])
def test_a_bad_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(Misconfigured, match="is not a topic pattern"):
        of(one, pattern)


def test_no_pattern_is_refused() -> None:
    with pytest.raises(Misconfigured, match="at least one pattern"):
        of(one, ())


@pytest.mark.parametrize("group", ["", "Slack", "a b", "~ready", "a:b"])
def test_a_bad_group_name_is_refused(group: str) -> None:
    with pytest.raises(Misconfigured, match="is not a group name"):
        of(one, group=group)


def test_the_answers_of_a_handler_carry_what_they_were_given() -> None:
    later = TryLater("limit", after=timedelta(seconds=3), counts=False, pause=True)

    assert (later.reason, later.after, later.counts, later.pause) == ("limit", timedelta(seconds=3), False, True)
    assert Refused("no such channel").reason == str(Refused("no such channel")) == "no such channel"


@pytest.mark.parametrize(
    ("topic", "quiet"), [("delivery.dead_lettered", True), ("integration.degraded", True), ("vm.created", False)]
)
def test_dead_letters_about_dead_letters_are_not_announced(topic: str, quiet: bool) -> None:
    assert is_quiet(topic) is quiet
