"""The pytest plugin: `pytest --integration NAME` runs the contract of an installed adapter, from any directory.

Whatever else is run, contract tests end with the tier that each adapter earned by them. Everybody who has us installed
loads this module in each of his test runs: so it imports nothing but pytest, and does nothing until a contract is run.
For the same reason `--integration` exists only where it is used: many projects have an option of that name.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from integrations.testing.rules import Card, Verdict

OPTION = "--integration"
PROPERTY = "eventbus_contract"


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    group = parser.getgroup("eventbus", "adapters of eventbus-integrations")
    group.addoption(
        "--integration-report",
        metavar="FILE",
        default=None,
        help="write the tier of each adapter whose contract is run to FILE, as JSON; "
        f"`{OPTION} NAME` runs the contract of an installed adapter",
    )
    config: Any = pluginmanager.get_plugin("pytestconfig")
    if any(_names_one(one, after) for one, after in _pairs(config.invocation_params.args)):
        group.addoption(
            OPTION,
            action="append",
            metavar="NAME",
            dest=PROPERTY,
            help="run the contract of this installed adapter; may be given several times",
        )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    names = config.getoption(PROPERTY, None) or []
    if names:
        _run_contracts(config, names)
        config.option.asyncio_mode = "auto"
        # What pytest-asyncio advises a project to set: here there may be none.
        warnings.filterwarnings("ignore", 'The configuration option "asyncio_default_fixture_loop_scope" is unset')
    if not hasattr(config, "workerinput"):  # a worker of xdist sends its reports to where the cards are
        config.pluginmanager.register(Cards(config.getoption("--integration-report")), "eventbus-cards")


def pytest_itemcollected(item: pytest.Item) -> None:
    rules = sys.modules.get("integrations.testing.rules")
    owner, test = getattr(item, "cls", None), getattr(item, "originalname", None)
    if rules is None or owner is None or test is None:
        return
    rule = rules.rule_of(owner, test)
    if rule is not None:
        manifest = owner.adapter.manifest
        said = f"{manifest.name} {owner.__name__} {rule.number} {manifest.tier or ''}"
        item.user_properties.append((PROPERTY, said))


class Cards:
    """How the contracts of this run came out. With xdist the reports of all workers come here."""

    def __init__(self, report: str | None) -> None:
        self._report = report
        self._cards: dict[tuple[str, str], Card] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == PROPERTY and (report.when == "call" or report.outcome != "passed"):
                self._note(str(value), report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        asked = config.getoption(PROPERTY, None) or []
        if self._cards or asked:
            terminalreporter.section("integrations")
        for key in sorted(self._cards):
            for line in _told(self._cards[key]):
                terminalreporter.write_line(line)
        for name in asked:
            if not any(adapter == name for adapter, _ in self._cards):
                terminalreporter.write_line(f"{name}: its contract holds no test; is there a class Test...?")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if any(card.claims_too_much for card in self._cards.values()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self._report is not None:
            cards = [self._cards[key].document() for key in sorted(self._cards)]
            Path(self._report).write_text(json.dumps({"adapters": cards}, indent=2) + "\n", "utf-8")

    def _note(self, value: str, report: pytest.TestReport) -> None:
        from integrations.testing.rules import Card

        adapter, contract, number, claimed = value.split(" ")
        card = self._cards.setdefault((adapter, contract), Card(adapter, contract, claimed=claimed))
        card.ends.setdefault(int(number), []).append(_end(report))


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    return zip(arguments, [*arguments[1:], ""], strict=True)


def _names_one(argument: str, after: str) -> bool:
    """Whether this argument, with the one behind it, is ours: another project's `--integration` takes no name."""
    return argument.startswith(f"{OPTION}=") or (argument == OPTION and bool(after) and not after.startswith("-"))


def _run_contracts(config: pytest.Config, names: Sequence[str]) -> None:
    """Run these contracts, beside what else is named on the command line."""
    if not config.pluginmanager.hasplugin("asyncio"):
        raise pytest.UsageError("a contract needs pytest-asyncio: pip install 'eventbus-integrations[testing]'")
    from integrations.testing.installed import NoContract, contract_of

    try:
        files = [str(contract_of(name)) for name in names]
    except NoContract as error:
        raise pytest.UsageError(f"{OPTION}: {error}") from None
    named = config.args if config.args_source is pytest.Config.ArgsSource.ARGS else []
    config.args = [*named, *files]


def _end(report: pytest.TestReport) -> tuple[Verdict, str]:
    """How a test ended, and why where it did not pass."""
    from integrations.testing.rules import Verdict

    if report.outcome == "passed":
        return Verdict.PASSED, ""
    if report.outcome == "failed" or hasattr(report, "wasxfail"):  # what is known to fail fails all the same
        return Verdict.FAILED, report.nodeid.rpartition("::")[2]
    said = str(report.longrepr[2] if isinstance(report.longrepr, tuple | list) else report.longrepr)
    kind, _, why = said.removeprefix("Skipped: ").partition(": ")
    return (Verdict.NOT_APPLICABLE, why) if kind == Verdict.NOT_APPLICABLE else (Verdict.NOT_SHOWN, why or kind)


def _told(card: Card) -> Iterator[str]:
    from integrations.testing.rules import MEANING, RULES, Verdict

    name = f"{card.adapter} ({card.contract})"
    counts = ", ".join(f"{card.count(one)} {one}" for one in Verdict if card.count(one))
    if card.tier is None:
        yield f"{name}: no tier, only a part of the rules was run ({counts})"
    else:
        yield f"{name}: {card.tier.name.lower()}: {MEANING[card.tier]} ({counts})"
    if card.claims_too_much:
        yield f"    its manifest says tier={card.claimed!r}: mend what follows, or say less there"
    for number, verdict in card.verdicts.items():
        if verdict in (Verdict.FAILED, Verdict.NOT_SHOWN):
            yield f"    rule {number}, {RULES[number].text}: {verdict}: {card.why(number)}"
