"""A new adapter is the example with other names, and without what takes webhooks where the service sends none."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from service import scaffold
from service.scaffold import Names

EXAMPLE = Path(__file__).parents[2] / "examples/custom_adapter"


def test_every_name_of_the_example_is_replaced_everywhere() -> None:
    files = scaffold.package(Names("help_desk"), inbound=True)
    text = "\n".join([*files, *files.values()])
    assert "acme" not in text.lower()
    assert "FakeTickets" not in text
    assert "TicketsConfig" not in text
    for made in ("class HelpDesk(", "class FakeHelpDesk(", "class HelpDeskConfig(", "Help Desk", "HELP_DESK_TOKEN"):
        assert made in text
    assert 'name = "eventbus-help-desk"\nversion = "0.1.0"' in files["pyproject.toml"]
    assert 'help_desk = "help_desk:HelpDesk"' in files["pyproject.toml"]


def test_a_new_package_has_every_file_of_the_example() -> None:
    made = scaffold.package(Names("acme_tickets"), inbound=True)
    there = [path for path in EXAMPLE.rglob("*") if path.is_file() and path.parent.name in ("acme_tickets", "tests")]
    assert made.keys() == {str(path.relative_to(EXAMPLE)) for path in [*there, EXAMPLE / "pyproject.toml"]}


def test_a_name_that_holds_names_of_the_example_is_put_in_once() -> None:
    assert Names("acme_tickets_two").apply("acme_tickets AcmeTickets") == "acme_tickets_two AcmeTicketsTwo"


def test_a_folder_within_a_package_is_imported_by_its_whole_name() -> None:
    names = Names("desk", "shop.integrations")
    files = scaffold.folder(names, inbound=False)
    assert "from shop.integrations.desk.client import Client" in files["adapter.py"]
    assert 'name="desk"' in files["adapter.py"]
    assert "pythonpath = ../../..\n" in files["pytest.ini"]
    assert 'desk = "shop.integrations.desk:Desk"' in scaffold.entry_point(names)
    assert "pip install" not in files["README.md"]


def test_without_webhooks_nothing_speaks_of_them() -> None:
    files = scaffold.package(Names("desk"), inbound=False)
    assert not [name for name, text in files.items() if "webhook" in text.lower() or "inbound" in text.lower()]
    assert "desk/inbound.py" not in files
    with_webhooks = scaffold.package(Names("desk"), inbound=True)
    assert "desk/inbound.py" in with_webhooks
    assert "async def receive(" in with_webhooks["desk/adapter.py"]


def test_what_does_not_speak_of_webhooks_stays() -> None:
    def functions(files: dict[str, str]) -> set[str]:
        trees = [ast.parse(text) for name, text in files.items() if name.endswith(".py")]
        found = [node for tree in trees for node in ast.walk(tree)]
        return {node.name for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}

    gone = functions(scaffold.package(Names("desk"), inbound=True)) - functions(
        scaffold.package(Names("desk"), inbound=False)
    )
    assert {"receive", "webhook"} <= gone
    assert not {"preview", "handle_event", "health", "settings", "effects", "routes", "make"} & gone


def test_only_what_is_about_webhooks_is_taken_out_of_a_module() -> None:
    source = '''\
"""A module."""

from a import first, second
from b import (
    Inbound,
    Other,
)
from c import only

SIGNATURE = only("x")


class Some:
    """It stays."""

    kept = first(
        one=1,
        webhook=2,
    )

    def takes(self, request: Inbound) -> None:
        second(request)

    def stays(self) -> Other:
        """It does."""
'''
    assert (
        scaffold.without_webhooks(source)
        == '''\
"""A module."""

from a import first
from b import (
    Other,
)


class Some:
    """It stays."""

    kept = first(
        one=1,
    )

    def stays(self) -> Other:
        """It does."""
'''
    )


@pytest.mark.parametrize("name", ["desk", "x", "acme_desk", "v2", "a" * 40, "match", "jira_cloud"])
def test_a_name_that_can_be(name: str) -> None:
    assert scaffold.why_not(name) is None


WRONG = [
    "",
    "Desk",
    "2desk",
    "my-desk",
    "my desk",
    "_desk",
    "desk_",
    "a__b",
    "../desk",
    "desk/x",
    "dësk",
    "desk\n",
    "a" * 41,
]
TAKEN = [
    "class",
    "none",
    "true",
    "tests",
    "event_bus",
    "client",
    "integration",
    "any",
    "ticket",
    "health",
    "task_failed",
]


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_name_is_refused_with_an_example(name: str) -> None:
    assert "such as acme_desk" in (scaffold.why_not(name) or "")


@pytest.mark.parametrize("name", TAKEN)
def test_a_name_with_another_meaning_is_refused_with_a_better_one(name: str) -> None:
    assert f"call it {name}_service" in (scaffold.why_not(name) or "")
