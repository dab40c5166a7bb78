"""Discovery over real distributions: a `.dist-info` on sys.path for each, as an installer leaves it."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from integrations.base import Integration
from registry.discovery import ENTRY_POINT_GROUP, OURS, Adapter, Discovered, discover

ADAPTER = """
from pydantic import BaseModel
from integrations.base import Health, Integration, Manifest

class Config(BaseModel):
    token: str = ""

class Broken(Exception):
    pass

class Jira(Integration[Config]):
    manifest = Manifest(name={name!r}, title="Jira", config=Config, handles=("task.*",))

    async def handle_event(self, event, delivery):
        raise NotImplementedError

    async def health(self):
        return Health("healthy")
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a distribution with modules and entry points on sys.path: `install("acme-jira", {...}, jira="acme:Jira")`."""
    monkeypatch.syspath_prepend(tmp_path)

    def installed(distribution: str, modules: dict[str, str], version: str = "1.2", **entries: str) -> None:
        info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = (f"{name} = {value}\n" for name, value in entries.items())
        (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{''.join(lines)}")
        for module, text in modules.items():
            (tmp_path / f"{module}.py").write_text(textwrap.dedent(text))

    yield installed
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def only(name: str, found: Discovered | None = None) -> Adapter:
    """The one entry of that name."""
    (adapter,) = [entry for entry in (found or discover()).entries if entry.name == name]
    return adapter


def test_an_installed_adapter_is_found_with_its_distribution_and_version(install: Install) -> None:
    install("Acme_Jira", {"acme": ADAPTER.format(name="jira")}, jira="acme:Jira")
    adapter = only("jira")
    assert (adapter.distribution, adapter.version, adapter.reason) == ("acme-jira", "1.2", None)
    assert adapter.integration is not None
    assert issubclass(adapter.integration, Integration)
    assert adapter.integration.manifest.title == "Jira"
    assert str(adapter) == "jira (acme-jira 1.2)"


@pytest.mark.parametrize(
    ("module", "value", "reason"),
    [
        ("import no_such_module", "acme:Jira", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise RuntimeError('two\\nlines')", "acme:Jira", "RuntimeError: two lines"),
        ("class Why(Exception): ...\nraise Why", "acme:Jira", "acme.Why"),
        ("raise SystemExit('licence expired')", "acme:Jira", "SystemExit: licence expired"),
        ("def (", "acme:Jira", "SyntaxError: "),
        ("", "acme:Jira", "AttributeError: module 'acme' has no attribute 'Jira'"),
        ("", "not a reference", "AttributeError: "),
        ("Jira = 5", "acme:Jira", "int is not a subclass of integrations.base.Integration"),
        ("class Jira: ...", "acme:Jira", "acme.Jira is not a subclass of integrations.base.Integration"),
        (ADAPTER + "Jira.manifest = None", "acme:Jira", "acme.Jira has no manifest: set the class attribute"),
        (ADAPTER.replace("    manifest", "    facts"), "acme:Jira", "acme.Jira has no manifest: "),
        (ADAPTER.replace("health", "wealth"), "acme:Jira", "acme.Jira does not implement health"),
        (ADAPTER.format(name="Jira!"), "acme:Jira", "its manifest's name 'Jira!' is not lower-case letters"),
        (ADAPTER.format(name="trello"), "acme:Jira", "its manifest is named 'trello', its entry point 'jira'"),
        (ADAPTER.replace("config=Config", "config=dict"), "acme:Jira", "its manifest's config is not a pydantic model"),
        (ADAPTER.replace("token: str", "timeout: str"), "acme:Jira", "its config has timeout: these keys belong to"),
        (ADAPTER.replace("task.*", "Task*"), "acme:Jira", "eventbus.errors.Misconfigured: 'Task*' is not a topic patt"),
    ],
)
def test_a_broken_adapter_is_listed_with_its_reason_and_stops_no_other(
    install: Install, module: str, value: str, reason: str
) -> None:
    install("acme-jira", {"acme": module.replace("{name!r}", "'jira'")}, jira=value)
    install("good-chat", {"chat": ADAPTER.format(name="zchat")}, zchat="chat:Jira")
    found = discover()
    broken = only("jira", found)
    assert broken.integration is None
    assert broken in found.broken
    assert found.adapters["jira"] is broken
    assert broken.reason is not None
    assert reason in broken.reason
    assert "\n" not in broken.reason
    assert "Traceback" not in broken.reason
    assert only("zchat", found).integration is not None


def test_an_interrupt_during_an_import_is_the_programs_and_goes_through(install: Install) -> None:
    install("acme-jira", {"acme": "raise KeyboardInterrupt"}, jira="acme:Jira")
    with pytest.raises(KeyboardInterrupt):
        discover()


def test_ours_keeps_its_name_and_the_other_is_not_even_imported(install: Install) -> None:
    install(OURS, {"ours": ADAPTER.format(name="jira")}, version="0.1.0", jira="ours:Jira")
    install("aaa-jira", {"theirs": "raise SystemExit"}, jira="theirs:Jira")
    found = discover()
    assert found.adapters["jira"].distribution == OURS
    assert found.adapters["jira"].integration is not None
    (refused,) = [entry for entry in found.broken if entry.name == "jira"]
    assert refused.distribution == "aaa-jira"
    assert refused.reason == f"the name belongs to jira ({OURS} 0.1.0): choose another"
    assert "theirs" not in sys.modules


def test_a_third_party_can_not_take_over_a_name_because_ours_is_broken(install: Install) -> None:
    install(OURS, {"ours": "import no_such_module"}, jira="ours:Jira")
    install("aaa-jira", {"theirs": ADAPTER.format(name="jira")}, jira="theirs:Jira")
    found = discover()
    assert found.adapters["jira"].integration is None
    assert [entry.distribution for entry in found.broken if entry.name == "jira"] == [OURS, "aaa-jira"]
    assert "theirs" not in sys.modules


def test_of_two_third_parties_the_alphabet_decides_whatever_the_order_on_the_path(install: Install) -> None:
    install("zzz-jira", {"zzz": ADAPTER.format(name="jira")}, jira="zzz:Jira")
    install("bbb-jira", {"bbb": ADAPTER.format(name="jira")}, jira="bbb:Jira")
    assert discover().adapters["jira"].distribution == "bbb-jira"
    assert [entry.distribution for entry in discover().entries if entry.name == "jira"] == ["bbb-jira", "zzz-jira"]


def test_a_half_removed_distribution_stops_nobody(install: Install, tmp_path: Path) -> None:
    install("acme-jira", {"acme": ADAPTER.format(name="jira")}, jira="acme:Jira")
    (tmp_path / "acme_jira-1.2.dist-info" / "METADATA").unlink()
    adapter = only("jira")
    assert (adapter.distribution, adapter.version) == ("unknown", "unknown")
    assert adapter.integration is not None


def test_explicit_entry_points_stand_in_for_the_installed_ones(install: Install, tmp_path: Path) -> None:
    (tmp_path / "acme.py").write_text(ADAPTER.format(name="jira"))
    found = discover([EntryPoint("jira", "acme:Jira", ENTRY_POINT_GROUP)])
    assert [entry.name for entry in found.entries] == ["jira"]
    assert found.adapters["jira"].integration is not None
