"""What `vm.*` events tell about the machines: one row for each in the integration's store, for `/...-vm-list`.

`fold` is pure. The newest event by its own time decides, so that a late or repeated one changes nothing.
"""

from __future__ import annotations

from typing import Any, cast

from pydantic import JsonValue

from eventbus.event import Event
from eventbus.payload import Payload
from integrations.base import Store

PREFIX = "vm:"
STATES = {"started": "running"}
"""The state that an event leaves a machine in, where it is not the event's own last word (`vm.stopped`)."""

Row = dict[str, JsonValue]


def fold(row: Row | None, event: Event[Any]) -> Row | None:
    """The row after this event; None when the row knows a newer one. `seq` is the event's time in microseconds."""
    seq = int(event.time.timestamp() * 1_000_000)
    old = row or {}
    if row is not None and cast("int", row["seq"]) > seq:
        return None
    last = event.topic.rpartition(".")[2]
    state = STATES.get(last, last)
    since = old["since"] if old.get("state") == state else event.time.isoformat(timespec="seconds")
    return {"name": _field(event, "vm_name") or old.get("name"), "state": state, "since": since, "seq": seq}


async def remember(store: Store, event: Event[Any]) -> None:
    """Fold the event into its machine's row. An event that names no machine changes nothing."""
    vm_id = _field(event, "vm_id")
    if not vm_id:
        return
    row = fold(cast("Row | None", await store.get(PREFIX + vm_id)), event)
    if row is not None:
        await store.put(PREFIX + vm_id, row)


async def known(store: Store) -> dict[str, Row]:
    """Every row, by machine."""
    rows = await store.items(PREFIX)
    return {name.removeprefix(PREFIX): cast("Row", row) for name, row in rows.items()}


def _field(event: Event[Any], name: str) -> str | None:
    value = getattr(event.data, name, None) if isinstance(event.data, Payload) else event.data.get(name)
    return value if isinstance(value, str) else None
