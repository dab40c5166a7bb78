"""The events that are measured: about 300 bytes on the wire, validated into their class on the way out."""

from __future__ import annotations

from collections.abc import Iterator

from eventbus import Event, Payload, catalog


class Measured(Payload, topic="bench.measured"):
    """No ordering key: no order, no lane."""

    number: int
    name: str
    note: str
    sent: float = 0.0


class MeasuredInOrder(Payload, topic="bench.ordered", key="lane"):
    """Ordered by its lane."""

    number: int
    lane: str
    note: str


NOTE = "what a typical event says beside its ids, in two or three short words"


def plain(count: int) -> Iterator[Event[Measured]]:
    """Events without order."""
    for n in range(count):
        yield catalog.event(Measured(number=n, name=f"machine-{n % 100}", note=NOTE))


def ordered(count: int, keys: int) -> Iterator[Event[MeasuredInOrder]]:
    """Events over this many ordering keys, round robin."""
    for n in range(count):
        yield catalog.event(MeasuredInOrder(number=n, lane=f"lane-{n % keys}", note=NOTE))
