"""Where the contract of an installed adapter is: in the module `contract` beside its class.

`acme_jira = "acme_jira:Jira"` among the entry points, with `Jira` written in `acme_jira/adapter.py`, has its contract
in `acme_jira/contract.py`: a test module like any other, in which a class `TestJira` subclasses `AdapterContract`.
"""

from __future__ import annotations

import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from registry.discovery import ENTRY_POINT_GROUP, discover
from registry.faults import did_you_mean


class NoContract(LookupError):
    """Nothing to run. The text says what is missing and what to do."""

    def __str__(self) -> str:
        return str(self.args[0])


def contract_of(name: str) -> Path:
    """The file. Raises NoContract."""
    entries = metadata.entry_points(group=ENTRY_POINT_GROUP)
    names = sorted({entry.name for entry in entries})
    if name not in names:
        raise NoContract(f"no adapter {name!r} is installed{did_you_mean(name, names)}; installed: {', '.join(names)}")
    adapter = discover(entry for entry in entries if entry.name == name).adapters[name]
    if adapter.integration is None:
        raise NoContract(f"the adapter {adapter} can't be used: {adapter.reason}")
    beside = sys.modules[adapter.integration.__module__].__package__
    spec = find_spec(f"{beside}.contract") if beside else None
    if spec is None or spec.origin is None:
        where = f"{beside}.contract" if beside else "`contract` of a package (it is a single module now)"
        raise NoContract(
            f"the adapter {adapter} has no contract: write a module {where} with a class TestX(AdapterContract), "
            "see integrations.testing.contract"
        )
    return Path(spec.origin)
