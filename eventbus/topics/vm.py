"""`vm.*`: the life of a virtual machine. Ordered by machine."""

from __future__ import annotations

from pydantic import Field

from eventbus.payload import Payload


class _Vm(Payload):
    vm_id: str = Field(description="Identifies the machine; its events are handled in order")
    vm_name: str | None = Field(default=None, description="What people call it")


class VmCreated(_Vm, topic="vm.created", key="vm_id"):
    """A machine exists."""

    vcpus: int | None = Field(default=None, ge=1, description="Virtual processors")
    memory_mb: int | None = Field(default=None, ge=1, description="Memory in MiB")

    @classmethod
    def example(cls) -> VmCreated:
        return cls(vm_id="vm-1", vm_name="my-vm", vcpus=2, memory_mb=2048)


class VmStarted(_Vm, topic="vm.started", key="vm_id"):
    """A machine runs."""

    @classmethod
    def example(cls) -> VmStarted:
        return cls(vm_id="vm-1", vm_name="my-vm")


class VmStopped(_Vm, topic="vm.stopped", key="vm_id"):
    """A machine no longer runs."""

    reason: str | None = Field(default=None, description="Why it was stopped")

    @classmethod
    def example(cls) -> VmStopped:
        return cls(vm_id="vm-1", vm_name="my-vm", reason="idle for 30 minutes")


class VmFailed(_Vm, topic="vm.failed", key="vm_id"):
    """A machine could not be made, or broke."""

    error: str = Field(description="What went wrong, for people")

    @classmethod
    def example(cls) -> VmFailed:
        return cls(vm_id="vm-1", vm_name="my-vm", error="no host has 64 GiB free")
