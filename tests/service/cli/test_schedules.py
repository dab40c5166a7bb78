"""`eventbus schedules` and the options that publish for later, through the real commands on a real Redis."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from eventbus.redis.embedded import EmbeddedRedis
from service.cli import main
from service.cli.times import SINCE, SPAN, TIME

FILE = """
events: {{url: "embedded://{home}"}}
schedules:
  check: {{cron: "0 2 * * *", timezone: Europe/Berlin, topic: custom.check}}
  off: {{cron: "0 3 * * *", topic: custom.check, enabled: false}}
"""


@pytest.fixture
def file(own_redis: EmbeddedRedis, tmp_path: Path) -> str:
    path = tmp_path / "eventbus.yaml"
    path.write_text(FILE.format(home=own_redis.home))
    return str(path)


def eventbus(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_what_is_published_for_later_is_listed_and_can_be_cancelled(file: str) -> None:
    published = eventbus("publish", "custom.x", "--delay", "2h", "--idempotency-key", "mine", "--config", file)
    assert (published.exit_code, published.output.split()[:2]) == (0, ["scheduled", "custom.x"])

    listed = json.loads(eventbus("schedules", "list", "--json", "--config", file).output)
    (waiting,) = listed["waiting"]
    assert (waiting["topic"], waiting["key"]) == ("custom.x", "mine")
    due = datetime.fromisoformat(waiting["due"])
    assert timedelta(hours=1, minutes=59) < due - datetime.now(UTC) <= timedelta(hours=2)

    assert eventbus("schedules", "cancel", "mine", "--config", file).output == "cancelled\n"
    again = eventbus("schedules", "cancel", "mine", "--config", file)
    assert (again.exit_code, "nothing waits under the key 'mine'" in again.output) == (3, True)


def test_the_schedules_of_the_file_are_listed_with_their_next_time(file: str) -> None:
    output = eventbus("schedules", "list", "--config", file).output
    (check,) = [line for line in output.splitlines() if line.startswith("check")]
    (off,) = [line for line in output.splitlines() if line.startswith("off")]
    assert "Europe/Berlin" in check
    assert datetime.fromisoformat(check.split()[-1]) > datetime.now(UTC)
    assert off.endswith("disabled")
    assert "no event waits for its time" in output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--at", "2026-01-12T09:00"], "needs a time zone"),
        (["--at", "tomorrow"], "is no time"),
        (["--delay", "soon"], "is no span of time"),
        (["--delay", ""], "is no span of time"),
        (["--delay", "99999999999999999999d"], "is too long"),
        (["--at", "2026-01-12T09:00Z", "--delay", "1h"], "not both"),
    ],
)
def test_a_time_that_is_none_is_refused_before_anything_is_sent(options: list[str], said: str) -> None:
    result = eventbus("publish", "custom.x", *options, "--url", "redis://127.0.0.1:1/0")
    assert result.exit_code == 2
    assert said in result.output


def test_spans_and_times() -> None:
    assert SPAN.convert("1d2h3m4s", None, None) == timedelta(days=1, hours=2, minutes=3, seconds=4)
    assert TIME.convert("2026-01-12T09:00+01:00", None, None) == datetime(2026, 1, 12, 8, tzinfo=UTC)
    since = SINCE.convert("90m", None, None)
    assert timedelta(minutes=90) <= datetime.now(UTC) - since < timedelta(minutes=91)
    assert SINCE.convert("2026-01-12T09:00Z", None, None) == datetime(2026, 1, 12, 9, tzinfo=UTC)
