"""Watch events as they are published, without a group: nothing is kept for a watcher, and nothing waits for it.

Prints:
    vm.created web-1
    vm.failed web-2: no host has 64 GiB free
"""

from __future__ import annotations

import asyncio

from eventbus import EventBus
from eventbus.topics import TaskStarted, VmCreated, VmFailed


async def main() -> None:
    async with EventBus.open("memory://") as bus, bus.listen("vm.*") as events:
        await bus.publish(VmCreated(vm_id="1", vm_name="web-1"))
        await bus.publish(TaskStarted(task_id="task-1"))  # not of this pattern
        await bus.publish(VmFailed(vm_id="2", vm_name="web-2", error="no host has 64 GiB free"))

        async for event in events:
            match event.data:
                case VmFailed(vm_name=name, error=error):
                    print(f"{event.topic} {name}: {error}")
                    break
                case data:
                    print(f"{event.topic} {data.vm_name}")


asyncio.run(main())
