"""DogStatsD: what can be known of an Agent that answers nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from integrations.datadog.agent import Agent
from integrations.datadog.fake_agent import FakeAgent
from integrations.errors import NotReady, OutcomeUnknown, Rejected, Unreachable
from integrations.exchange import listening

LINE = b"a.b:1|c"


@pytest.fixture(params=["udp", "unix"])
async def fake(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FakeAgent]:
    async with FakeAgent(path=tmp_path / "dsd.socket" if request.param == "unix" else None) as fake:
        yield fake


def agent(fake: FakeAgent) -> Agent:
    return Agent(str(fake.settings()["agent"]))


async def test_lines_arrive(fake: FakeAgent) -> None:
    await agent(fake).send([LINE, LINE + b"\n" + LINE])
    assert fake.effects() == ["a.b:1|c"] * 3


async def test_that_nobody_listens_on_this_machine_is_noticed_and_nothing_was_done(fake: FakeAgent) -> None:
    fake.go_down()
    with pytest.raises(Unreachable, match="is an Agent running"):
        await agent(fake).send([LINE])
    fake.come_back()
    await agent(fake).send([LINE])
    assert fake.effects() == ["a.b:1|c"]


async def test_an_agent_that_goes_away_between_two_datagrams_leaves_the_outcome_unknown(fake: FakeAgent) -> None:
    class Away(list[bytes]):
        """Takes the Agent away when the second datagram is asked for."""

        def __iter__(self):  # type: ignore[no-untyped-def]
            yield LINE
            fake.go_down()
            yield LINE

    with pytest.raises(OutcomeUnknown, match="some of it was sent before"):
        await agent(fake).send(Away([LINE, LINE]))
    assert fake.effects() == ["a.b:1|c"]


async def test_a_probe_counts_nothing(fake: FakeAgent) -> None:
    said = await agent(fake).probe()
    assert fake.effects() == []
    assert said == ("an Agent listens" if fake.path else "nothing speaks against it; DogStatsD answers nothing")
    fake.go_down()
    with pytest.raises(Unreachable):
        await agent(fake).probe()


async def test_a_datagram_larger_than_the_kernel_takes_is_refused(fake: FakeAgent) -> None:
    with pytest.raises(Rejected, match="takes no datagram of"):
        await agent(fake).send([b"x" * 10_000_000])


async def test_an_agent_that_does_not_keep_up_is_given_time(tmp_path: Path) -> None:
    async with FakeAgent(path=tmp_path / "dsd.socket") as fake:
        with pytest.raises((NotReady, OutcomeUnknown), match="its buffer is full"):
            await agent(fake).send([LINE] * 100_000)
        with pytest.raises(NotReady, match="its buffer is full"):
            await agent(fake).send([LINE])


async def test_a_name_that_nobody_has_is_unreachable() -> None:
    with pytest.raises(Unreachable):
        await Agent("udp://agent.invalid:8125").send([LINE])


async def test_a_name_is_looked_up() -> None:
    async with FakeAgent() as fake:
        address = str(fake.settings()["agent"]).replace("127.0.0.1", "localhost")
        try:
            await Agent(address).send([LINE])
        except Unreachable:  # where localhost is ::1 first: looked up all the same
            return
        assert fake.effects() == ["a.b:1|c"]


async def test_what_was_sent_can_be_asked_for_later(fake: FakeAgent) -> None:
    with listening() as heard:
        await agent(fake).send([LINE])
    (one,) = heard
    assert one.request == f"DogStatsD {fake.settings()['agent']}, 7 bytes"
    assert one.answer == "sent; DogStatsD answers nothing"
