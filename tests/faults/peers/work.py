"""What the programs of every framework do alike: which events there are, what a handler does, how a publisher insists.

It runs in the peers' environments too, so it imports the standard library and `history`. A program finds its `Settings`
in the environment, as some workers are started by their framework's own command. A publisher sends one event after
another and sends an event again until it is accepted; every event has a plan:

    do      make the effect
    slow    hold it for a moment, then make the effect
    fail    raise, the first time that anybody handles it; then make the effect
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.faults.history import History, read

VARIABLE = "FAULTS_PEER"
GROUP, TOPIC = "mail", "faults.order"
PRESUMED_DEAD = 5
"""Seconds until what a worker had in hand goes to another: the lease, idle or visibility time of every framework. The
shortest that FastStream's documentation names for fast handlers is 1 to 5 seconds (redis/streams/claiming)."""

SLOW_SECONDS = 0.2
PLANS = {"do": 93.0, "slow": 4.0, "fail": 3.0}
AGAIN_SECONDS = 0.2
"""From a publish that failed to its repetition."""

RETRIES = 10
"""Of a handler that raised, where a framework wants a number. A planned failure needs one."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a program is started with. `events` and `rate`, in events per second, are those of one publisher."""

    name: str
    url: str
    receiver: str
    folder: str
    seed: int
    events: int
    rate: float
    keys: int

    def text(self) -> str:
        """As it stands in the environment."""
        return json.dumps(asdict(self))

    @property
    def history(self) -> Path:
        """Where its history is."""
        return Path(self.folder) / f"{self.name}.jsonl"


def settings() -> Settings:
    """Those of this program."""
    return Settings(**json.loads(os.environ[VARIABLE]))


def planned(given: Settings, number: int) -> dict[str, Any]:
    """The event of this number. It follows from the seed, so every framework gets the same."""
    chance = random.Random(f"{given.seed} {given.name} {number}")
    plan = chance.choices(list(PLANS), list(PLANS.values()))[0]
    key = f"{given.name}-{chance.randrange(given.keys)}"
    return {"name": f"{given.name}-{number}", "key": key, "number": number, "plan": plan}


async def publish(
    given: Settings, send: Callable[[dict[str, Any]], Awaitable[object]], surely_not: tuple[type[Exception], ...] = ()
) -> None:
    """Send all events, in their order; one that ended badly is sent again before the next.

    `surely_not`: errors by which a framework says that the event was not stored. After all others nobody knows.
    """
    history = History(given.history)
    start = sum(line["phase"] == "ok" for line in read(given.history))
    began = time.monotonic()
    calls = 0
    for number in range(start, given.events):
        await asyncio.sleep(began + (number - start) / given.rate - time.monotonic())
        event = planned(given, number)
        row = [event["name"], event["key"], TOPIC, event["plan"], 0]
        while True:
            calls += 1
            call = {"name": given.name, "call": calls}
            history.note("publish", phase="invoke", **call, events=[row])
            try:
                await send(event)
            except Exception as error:  # noqa: BLE001  each framework has its own, and some let redis-py's through
                phase = "fail" if isinstance(error, surely_not) else "info"
                history.note("publish", phase=phase, **call, error=f"{type(error).__name__}: {error}"[:200])
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            history.note("publish", phase="ok", **call, receipts=[[event["name"], "stored", number + 1]])
            break


class Worker:
    """What a worker's handlers do. They block for the moment that the receiver needs, in asynchronous programs too."""

    def __init__(self, given: Settings) -> None:
        self._given = given
        self._history = History(given.history)
        self._history.pid = os.getsid(0)  # its processes, if it has several, are one worker
        self._receiver: tuple[int, socket.socket] | None = None

    def up(self) -> None:
        """It can work now."""
        self._history.up()

    def begin(self, event: Mapping[str, Any]) -> float:
        """A handler begins; returns how many seconds it shall hold the event. Raises where that is the plan."""
        self._history.note("begin", group=GROUP, event=event["name"], attempt=1)
        if event["plan"] == "fail" and self._is_first(event["name"]):
            raise RuntimeError("as planned")
        if event["plan"] == "slow":
            self._history.note("hold", event=event["name"])
            return SLOW_SECONDS
        return 0.0

    def finish(self, event: Mapping[str, Any]) -> None:
        """Make the effect."""
        line = [event["name"], event["key"], event["number"] + 1, GROUP, 1, self._history.pid]
        receiver = self._connected()
        receiver.sendall(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        if not receiver.recv(1):
            raise RuntimeError("the receiver is gone")

    async def handle(self, event: Mapping[str, Any]) -> None:
        """The handler of an asynchronous program."""
        await asyncio.sleep(self.begin(event))
        self.finish(event)

    def _is_first(self, name: str) -> bool:
        try:
            (Path(self._given.folder) / "failed" / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _connected(self) -> socket.socket:
        if self._receiver is None or self._receiver[0] != os.getpid():  # a forked process needs its own
            opened = socket.socket(socket.AF_UNIX)
            opened.connect(self._given.receiver)
            self._receiver = os.getpid(), opened
        return self._receiver[1]
