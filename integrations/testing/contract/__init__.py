"""The contract every adapter keeps, as tests. Subclass it, name your adapter and its fake, and run pytest:

    class TestAcme(AdapterContract):
        adapter = Acme
        fake = FakeAcme
        event = catalog.event(VmFailed(vm_id="vm-1", error="no host"))

In a module `contract` of the adapter's package it is found by `pytest --integration acme` wherever the package is
installed. It needs pytest, and pytest-asyncio in its auto mode; nothing else here does. What may be added to the three
lines stands in `bench`; the numbered rules in `integrations.testing.rules`, and each group of them in a module of its
own beside this one. What an adapter does with a particular answer beyond these rules belongs into its own tests.
"""

from __future__ import annotations

from integrations.testing.contract.answers import AnswerRules
from integrations.testing.contract.bench import not_applicable, not_shown
from integrations.testing.contract.budgets import BudgetRules
from integrations.testing.contract.connections import ConnectionRules
from integrations.testing.contract.dry_run import DryRunRules
from integrations.testing.contract.effects import EffectRules
from integrations.testing.contract.health import HealthRules
from integrations.testing.contract.inbound import InboundRules
from integrations.testing.contract.lengths import LengthRules
from integrations.testing.contract.secrets import SecretRules
from integrations.testing.contract.settings import SettingsRules
from integrations.testing.contract.webhooks import Webhooks
from integrations.testing.rig import Rig, Worker


class AdapterContract(
    SettingsRules,
    HealthRules,
    EffectRules,
    AnswerRules,
    DryRunRules,
    SecretRules,
    ConnectionRules,
    InboundRules,
    BudgetRules,
    LengthRules,
):
    """Subclass it as the module says. `event` must cause one effect at the fake."""


__all__ = ["AdapterContract", "Rig", "Webhooks", "Worker", "not_applicable", "not_shown"]
