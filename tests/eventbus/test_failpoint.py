"""Failpoints: off by default and cheap, refused when misspelt, and each action does what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import timeit
from pathlib import Path

import pytest

from eventbus.errors import Misconfigured
from eventbus.failpoint import PLACES, FailpointReached, Failpoints, failpoint, parse

HERE = "delivery.after_take"
COMES_BY_TWICE = f"""
from eventbus.failpoint import failpoint
failpoint({HERE!r}); print("once", flush=True); failpoint({HERE!r}); print("twice", flush=True)
"""


def process(failpoints: str, **environment: str) -> subprocess.Popen[str]:
    """A process that comes by a place twice."""
    settings = {**os.environ, "EVENTBUS_FAILPOINTS": failpoints, **environment}
    command = [sys.executable, "-c", COMES_BY_TWICE]
    return subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_nothing_happens_unless_the_environment_says_so() -> None:
    out, _ = process("").communicate()
    assert out == "once\ntwice\n"


def test_a_place_that_is_off_costs_less_than_a_microsecond() -> None:
    assert min(timeit.repeat(lambda: failpoint(HERE), number=10_000, repeat=5)) / 10_000 < 1e-6


def test_the_process_dies_at_the_nth_time() -> None:
    died = process(f"{HERE}:2:exit137")
    out, _ = died.communicate()
    assert (died.returncode, out) == (137, "once\n")


def test_a_stopped_process_goes_on_when_it_is_told_to() -> None:
    stopped = process(f"{HERE}:2:stop")
    _, status = os.waitpid(stopped.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    stopped.send_signal(signal.SIGCONT)
    assert stopped.communicate()[0] == "once\ntwice\n"


def test_a_raise_is_an_error_that_nobody_expects() -> None:
    points = Failpoints(parse(f"{HERE}:1:raise"), "")
    with pytest.raises(FailpointReached):
        points.hit(HERE)
    points.hit(HERE)


def test_a_sleep_holds_up_the_process() -> None:
    points = Failpoints(parse(f"{HERE}:1:sleep"), "")
    started = time.monotonic()
    points.hit(HERE)
    assert time.monotonic() - started >= 0.9


def test_several_places_can_be_on() -> None:
    assert set(parse(f"{HERE}:1:raise, {HERE}:7:stop,upkeep.before_trim:2:sleep")) == {
        (HERE, 1),
        (HERE, 7),
        ("upkeep.before_trim", 2),
    }


@pytest.mark.parametrize("text", ["nowhere:1:raise", f"{HERE}:0:raise", f"{HERE}:x:raise", f"{HERE}:1:jump", HERE])
def test_what_is_misspelt_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(Misconfigured, match="EVENTBUS_FAILPOINTS"):
        parse(text)
    refused = process(text)
    _, said = refused.communicate()
    assert refused.returncode == 1
    assert "EVENTBUS_FAILPOINTS" in said


def test_a_place_that_is_not_in_the_list_is_refused_once_one_is_on() -> None:
    with pytest.raises(Misconfigured, match="'nowhere'"):
        Failpoints(parse(""), "").hit("nowhere")


def test_the_log_tells_which_places_a_process_came_by(tmp_path: Path) -> None:
    log = tmp_path / "reached"
    for _ in range(2):
        process("", EVENTBUS_FAILPOINT_LOG=str(log)).communicate()
    assert log.read_text().split() == [HERE, HERE], "once for each process"


def test_every_place_says_what_has_happened_there() -> None:
    assert all(PLACES.values())
