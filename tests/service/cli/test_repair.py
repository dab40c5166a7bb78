"""What the commands for dead letters, groups, history and books share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from eventbus import Full, Unavailable
from service.cli.repair import _Rate, age, cut, length, number
from service.cli.shell import run
from tests.service.cli.terminal import NOBODY_LISTENS, eventbus

COMMANDS = [
    ["dead", "list"],
    ["dead", "show", "g/1-1"],
    ["dead", "redrive", "--all", "--yes"],
    ["dead", "drop", "--all", "--yes"],
    ["groups", "list"],
    ["groups", "retire", "g"],
    ["replay", "--group", "g", "--since", "1h"],
    ["audit"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_redis_that_is_away_is_exit_code_5(arguments: list[str]) -> None:
    done = eventbus(*arguments, "--url", NOBODY_LISTENS)
    assert done.exit_code == 5, done.output
    assert f"error: can't reach Redis at {NOBODY_LISTENS}: " in done.stderr


@pytest.mark.parametrize(("error", "code"), [(Unavailable("away"), 5), (Full("no memory left"), 1)])
def test_a_redis_without_memory_is_not_away(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run(work())
    assert ended.value.code == code
    assert str(error) in capsys.readouterr().err


@pytest.mark.parametrize(("text", "rate"), [("10", 10.0), ("0.5", 0.5), ("20/s", 20.0)])
def test_a_rate_is_events_a_second(text: str, rate: float) -> None:
    assert _Rate().convert(text, None, None) == rate


@pytest.mark.parametrize("text", ["", "0", "-1", "fast", "nan", "inf", "10/min"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no rate: write 10 or"):
        _Rate().convert(text, None, None)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_a_span_is_told_in_one_unit(seconds: int, shown: str) -> None:
    assert length(timedelta(seconds=seconds)) == shown
    assert age(datetime.now(UTC) - timedelta(seconds=seconds)) == shown


def test_one_of_a_thing_is_no_plural_and_a_long_text_is_cut() -> None:
    assert (number(1, "gap"), number(0, "gap"), number(1200, "gap")) == ("1 gap", "0 gaps", "1,200 gaps")
    assert (cut("abcdef", 6), cut("abcdefg", 6)) == ("abcdef", "abc...")
