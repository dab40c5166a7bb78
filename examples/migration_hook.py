"""A migration tool's hook: code without an event loop that must never hurt the migration it reports on.

Whatever is wrong with the bus is logged and forgotten, and the call ends within about a second; only the look-up of
the host's name is left to the system's own time-out. The idempotency key makes a hook that runs twice announce once.

Prints:
    add_user_email is applied, announced: stored
    add_user_email is applied, announced: duplicate
    add_user_email is applied, not announced: Unavailable
    add_user_email is applied, not announced: Misconfigured
"""

from __future__ import annotations

import logging
from datetime import timedelta

from eventbus import SyncPublisher
from eventbus.topics import MigrationCompleted

log = logging.getLogger("migrations")


def after_migration(name: str, version: str, milliseconds: float, *, bus_url: str) -> str:
    """Announce an applied migration; returns what became of that. Raises nothing."""
    try:
        with SyncPublisher(bus_url, timeout=timedelta(seconds=1)) as bus:
            receipt = bus.publish(
                MigrationCompleted(migration=name, version=version, duration_ms=milliseconds),
                source="/migrations",
                idempotency_key=f"migration.completed:{name}:{version}",
            )
    except Exception as error:  # noqa: BLE001  whatever it is, the migration is worth more
        log.warning("migration %s was not announced: %s", name, error)
        return f"not announced: {type(error).__name__}"
    return f"announced: {receipt.status}"


def main() -> None:
    nobody_listens = "redis://127.0.0.1:1/0"
    for url in ("memory://hook", "memory://hook", nobody_listens, "postgres://not-a-bus"):
        said = after_migration("add_user_email", "20260112_1030", 2310, bus_url=url)
        print(f"add_user_email is applied, {said}")


main()
