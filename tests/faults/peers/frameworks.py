"""The frameworks that are compared: how their programs are started, and what each of them never promised."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.collect import install
from eventbus.redis.scripts import script

HERE = "tests.faults.peers"


@dataclass(frozen=True, slots=True)
class Framework:
    """One of them. `worker` and `publisher` are arguments of its Python, {name} in them being the program's;
    `publishes` is in each request that does.

    `never_promised` is read in its documentation and source; `unknown` is what its user does after a publish that
    failed.
    """

    name: str
    title: str
    python: Callable[[], Path]
    worker: tuple[str, ...]
    publisher: tuple[str, ...]
    publishes: bytes
    never_promised: str
    unknown: str


def _peer(name: str) -> Callable[[], Path]:
    return lambda: install(name)


FRAMEWORKS = (
    Framework(
        "eventbus",
        "this bus",
        lambda: Path(sys.executable),
        ("-m", f"{HERE}.eventbus", "worker"),
        ("-m", f"{HERE}.eventbus", "publisher"),
        script("publish").sha.encode(),
        "one effect per event, unless the handler acts through the ledger (here it does not)",
        "publishes the same event again, as the bus did before it gave up: it is stored once",
    ),
    Framework(
        "faststream",
        "FastStream 0.7.8, Redis streams",
        _peer("faststream"),
        ("-m", f"{HERE}.faststream", "worker"),
        ("-m", f"{HERE}.faststream", "publisher"),
        b"XADD",
        "order per key over several workers or after a failure; one entry per event; one effect per event",
        "publishes again: a new entry",
    ),
    Framework(
        "taskiq",
        "taskiq 0.13.0, taskiq-redis 1.2.4, stream broker",
        _peer("taskiq"),
        ("-m", "taskiq", "worker", f"{HERE}.taskiq:broker", "--workers", "1", "--log-level", "WARNING"),
        ("-m", f"{HERE}.taskiq"),
        b"XADD",
        "order; one entry per event; one effect per event; a redelivery while nothing new arrives",
        "sends again: a new task",
    ),
    Framework(
        "celery",
        "Celery 5.7.0, Redis broker",
        _peer("celery"),
        ("-m", "celery", "--app", f"{HERE}.celery", "worker", "--loglevel", "WARNING", "-n", "{name}@%h"),
        ("-m", f"{HERE}.celery"),
        b"LPUSH",
        "order; one message per event; one effect per event (tasks with acks_late must be idempotent); to keep a "
        "message between BRPOP and noting it as unacknowledged (kombu/transport/redis.py, _brpop_read, QoS.append)",
        "sends again, as Celery did three times before it gave up: a new task",
    ),
)
