"""Publish an event and receive it, in one process, in memory. Prints:
stored as number 1
my-vm was created
"""

import asyncio

from eventbus import Event, EventBus
from eventbus.topics import VmCreated


async def main() -> None:
    async with EventBus.open("memory://") as bus:

        @bus.on("vm.*", group="announcer")
        async def announce(event: Event[VmCreated]) -> None:
            print(f"{event.data.vm_name} was created")

        receipt = await bus.publish(VmCreated(vm_id="1", vm_name="my-vm"))
        print(f"stored as number {receipt.sequence}")
        await bus.run_until_idle()


asyncio.run(main())
