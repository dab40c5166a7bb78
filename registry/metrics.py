"""What is counted, by the names operators have on their dashboards.

Labels are bounded: a topic outside the catalogue counts as `other`, so nobody can fill the memory by inventing topics.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from eventbus.audit import Kind
from eventbus.catalog import catalog
from eventbus.observer import Observer
from eventbus.redis.shard import Backlog
from eventbus.spooling import Spools

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter that nobody reads

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of the text format (prometheus.io, "Exposition formats")."""

MAX_TOPICS = 300
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics(Observer):
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._topics: set[str] = set()
        self._published = Counter(
            "event_bus_messages_published",
            "Events accepted: stored, scheduled, spooled",
            ["topic"],
            registry=self.registry,
        )
        self._duplicates = Counter(
            "event_bus_messages_duplicate", "Publishes of an idempotency key known before", ["topic"],
            registry=self.registry,
        )  # fmt: skip
        self._consumed = Counter(
            "event_bus_messages_consumed", "Deliveries done", ["topic", "integration"], registry=self.registry
        )
        self._attempts = Counter(
            "event_bus_attempts", "Attempts by how they ended: done, retry, parked, dead", ["integration", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "event_bus_attempt_seconds", "How long an attempt took", ["integration"], buckets=_BUCKETS,
            registry=self.registry,
        )  # fmt: skip
        self._fenced = Counter(
            "event_bus_fenced", "Deliveries that were no longer ours when we finished", ["integration"],
            registry=self.registry,
        )  # fmt: skip
        self._backlog = Gauge(
            "event_bus_backlog", "Deliveries not done, by state", ["integration", "state"], registry=self.registry
        )
        self._gaps = Counter(
            "event_bus_gaps", "Sums of the log's books that did not add up", ["kind"], registry=self.registry
        )
        for kind in get_args(Kind):
            self._gaps.labels(kind)  # from 0 on: increase() does not see how a series came to be
        self._requests = Counter(
            "integration_requests", "Calls of an adapter that reached for its service", ["integration", "method"],
            registry=self.registry,
        )  # fmt: skip
        self._request_seconds = Histogram(
            "integration_request_seconds", "How long such a call took", ["integration", "method"], buckets=_BUCKETS,
            registry=self.registry,
        )  # fmt: skip

    def published(self, topic: str, status: str) -> None:
        (self._duplicates if status == "duplicate" else self._published).labels(self._topic(topic)).inc()

    def handled(self, group: str, topic: str, outcome: str, seconds: float) -> None:
        self._attempts.labels(group, outcome).inc()
        self._seconds.labels(group).observe(seconds)
        if outcome == "done":
            self._consumed.labels(self._topic(topic), group).inc()

    def fenced(self, group: str) -> None:
        self._fenced.labels(group).inc()

    def gap(self, kind: str, count: int) -> None:
        self._gaps.labels(kind).inc()

    def watch_spool(self, spools: Spools) -> None:
        """Show what waits on this machine's disk until Redis takes it."""
        for name, text, value in (
            ("events", "Events spooled on this machine", lambda: spools.count),
            ("bytes", "Their bytes on disk", lambda: spools.bytes),
            ("oldest_seconds", "Age of the oldest", lambda: spools.oldest.total_seconds() if spools.oldest else 0),
        ):
            Gauge(f"event_bus_spool_{name}", text, registry=self.registry).set_function(value)

    def backlog(self, group: str, backlog: Backlog) -> None:
        """How a group stands, as last looked at."""
        self._fenced.labels(group)  # from 0 on, as gaps
        states = {
            "unread": backlog.unread,
            "running": backlog.running,
            "waiting": backlog.waiting,
            "due": backlog.due,
            "ready": backlog.ready,
            "dead": backlog.dead,
        }
        for state, value in states.items():
            self._backlog.labels(group, state).set(value)

    @contextmanager
    def request(self, integration: str, method: str) -> Iterator[None]:
        """Around one call of an adapter."""
        self._requests.labels(integration, method).inc()
        started = time.perf_counter()
        try:
            yield
        finally:
            self._request_seconds.labels(integration, method).observe(time.perf_counter() - started)

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)

    def _topic(self, topic: str) -> str:
        if topic in self._topics:
            return topic
        if catalog.find(topic) is None or len(self._topics) >= MAX_TOPICS:
            return "other"
        self._topics.add(topic)
        return topic
