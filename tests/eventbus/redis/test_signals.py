"""Listening: on a line that goes dead without a word, and with messages nobody understands."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from eventbus.redis.connection import Connection
from eventbus.redis.signals import Signals
from tests.conftest import wait_until
from tests.proxy import Proxy

SILENCE = 0.2


class Listening:
    """What one listener was told, and how often listening began."""

    def __init__(self) -> None:
        self.told: list[bytes] = []
        self.begun = 0
        self.lost_when: list[int] = []

    def lost(self) -> None:
        self.lost_when.append(self.begun)

    def heard(self, message: bytes) -> None:
        if message == b"nonsense":
            raise ValueError("nobody can read this")
        self.told.append(message)

    def back(self) -> None:
        self.begun += 1


@pytest.fixture
async def admin(redis_url: str) -> AsyncIterator[Connection]:
    connection = await Connection.open(redis_url)
    yield connection
    await connection.close()


@pytest.fixture
async def far(proxy: Proxy) -> AsyncIterator[Connection]:
    connection = await Connection.open(proxy.url)
    yield connection
    await connection.close()


async def test_a_line_that_died_without_a_word_is_noticed_and_replaced(
    proxy: Proxy, far: Connection, admin: Connection, namespace: str
) -> None:
    listening = Listening()
    signals = Signals(far, namespace, listening.heard, back=listening.back, silence=SILENCE)
    await signals.start()
    assert listening.begun == 1

    proxy.freeze()
    start = time.monotonic()
    await wait_until(lambda: not signals.is_listening, "the dead line is noticed")
    assert time.monotonic() - start < 10 * SILENCE
    proxy.thaw()

    await wait_until(lambda: listening.begun == 2, "it listens again")
    await admin.do("PUBLISH", namespace, "after")
    await wait_until(lambda: listening.told == [b"after"], "it hears")
    await signals.stop()


async def test_a_line_on_which_nothing_is_said_stays(far: Connection, proxy: Proxy, namespace: str) -> None:
    listening = Listening()
    proxy.watch(b"PING")
    signals = Signals(far, namespace, listening.heard, back=listening.back, silence=SILENCE)
    await signals.start()

    await wait_until(lambda: proxy.requests[b"PING"] >= 4, "it was asked whether it lives")
    await signals.stop()

    assert listening.begun == 1


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_a_message_that_can_not_be_read_does_not_end_listening(kind: str, redis_url: str, namespace: str) -> None:
    connection = await Connection.open(f"memory://{namespace}" if kind == "memory" else redis_url)
    listening = Listening()
    signals = Signals(connection, namespace, listening.heard, back=listening.back, silence=SILENCE)
    await signals.start()

    for message in ("nonsense", "sense"):
        await connection.do("PUBLISH", namespace, message)
    await wait_until(lambda: listening.told == [b"sense"], "the next message is heard")

    assert listening.begun == 1
    await signals.stop()
    await connection.close()


async def test_listening_begins_again_after_every_loss(
    proxy: Proxy, far: Connection, admin: Connection, namespace: str
) -> None:
    listening = Listening()
    signals = Signals(far, namespace, listening.heard, back=listening.back, lost=listening.lost)
    await signals.start()

    for number in range(2, 5):
        proxy.reset()
        await wait_until(lambda number=number: listening.begun == number, "it listens again")  # type: ignore[misc]
        await admin.do("PUBLISH", namespace, str(number))
        await wait_until(lambda number=number: listening.told[-1:] == [b"%d" % number], "it hears")  # type: ignore[misc]
    await signals.stop()

    assert listening.lost_when == [1, 2, 3], "each loss is told before listening begins again, and its own end is none"
