"""Of each mutant's contract only the rule is run that has to catch it."""

from __future__ import annotations

import pytest

from integrations.testing.rules import rule_of


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if _is_wanted(item)]


def _is_wanted(item: pytest.Item) -> bool:
    broken = getattr(getattr(item, "cls", None), "breaks", None)
    if broken is None:  # no mutant, or one that keeps all rules; the hook is shown the tests of the whole run
        return True
    assert isinstance(item, pytest.Function)
    assert item.cls is not None
    rule = rule_of(item.cls, item.originalname)
    return rule is not None and rule.number == broken
