"""What a program logs gets into the journal, costs it nothing but a moment, and can't be what it dies of."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, redirect_stderr, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml
from pydantic import SecretStr

from eventbus import EventBus
from eventbus.journal import START, Journal, Said
from eventbus.redis.embedded import EmbeddedRedis
from eventbus.topics import VmCreated
from integrations.redact import Redactor
from integrations.webhook import Webhook
from registry.sections import Events, Gateway, IntegrationSettings, Log, Settings
from service import logs
from service.gateway.operations import OPERATIONS
from service.journal import (
    BATCH_LINES,
    LOGGER,
    MAX_LINE_BYTES,
    MOST_WAITING,
    OPEN_ROUTES,
    ROUTE,
    JournalWriter,
    keeping_journal,
    redactor,
)
from service.log_lines import Query, search
from service.process import Child
from tests.conftest import wait_until
from tests.proxy import Proxy

PATIENCE_SECONDS = 30.0
NOBODY_LISTENS = "redis://127.0.0.1:1/0"
_log = structlog.get_logger("service.test")


@pytest.fixture(autouse=True)
def stderr() -> Iterator[io.StringIO]:
    """Lines as a process writes them."""
    written = io.StringIO()
    with redirect_stderr(written):
        logs.configure("debug", "json")
    yield written
    structlog.contextvars.clear_contextvars()


async def said(journal: Journal) -> list[dict[str, Any]]:
    """All lines, the oldest first."""
    return [json.loads(kept.line) for kept in await journal.after(START, most=10_000)]


async def events(journal: Journal) -> list[str]:
    return [line["event"] for line in await said(journal)]


async def holds(journal: Journal, count: int) -> bool:
    return len(await said(journal)) == count


async def test_a_line_is_kept_with_time_level_logger_program_host_and_all_it_says(bus: EventBus) -> None:
    logs.bind(program="worker")
    async with keeping_journal(bus, Settings()):
        _log.warning("not delivered", integration="github", attempt=2, deep={"a": [1, None]})
    (line,) = await said(bus.journal)
    assert line.pop("timestamp").endswith("Z")
    assert line.pop("host")
    assert line.pop("pid") > 0
    assert line == {
        "event": "not delivered",
        "level": "warning",
        "logger": "service.test",
        "program": "worker",
        "integration": "github",
        "attempt": 2,
        "deep": {"a": [1, None]},
    }


async def test_what_is_logged_last_is_kept_when_the_program_ends(bus: EventBus) -> None:
    async with keeping_journal(bus, Settings()):
        for number in range(3 * BATCH_LINES):
            _log.info(str(number))
    assert await events(bus.journal) == [str(number) for number in range(3 * BATCH_LINES)]
    _log.info("afterwards")
    assert "afterwards" not in await events(bus.journal)


async def test_lines_come_while_the_program_runs(bus: EventBus) -> None:
    async with keeping_journal(bus, Settings()):
        for number in range(1, 4):
            _log.info("now")
            await wait_until(partial(holds, bus.journal, number), "the line is in Redis")


async def test_the_settings_say_how_many_stay_and_from_which_level_on(bus: EventBus) -> None:
    async with keeping_journal(bus, Settings(log=Log(keep=3, keep_level="warning"))):
        _log.info("quiet")
        for number in range(5):
            _log.warning(str(number))
    assert await events(bus.journal) == ["2", "3", "4"]


async def test_warnings_are_still_found_when_everything_else_has_pushed_them_out(bus: EventBus) -> None:
    async with keeping_journal(bus, Settings(log=Log(keep=10))):
        _log.warning("wrong")
        logging.getLogger("some.library").error("broken")
        for number in range(20):
            _log.info(str(number))
    assert "wrong" not in await events(bus.journal)
    assert [line.message for line in (await search(bus.journal, Query(level="warning"))).lines] == ["broken", "wrong"]


async def test_with_keep_0_nothing_is_kept(bus: EventBus) -> None:
    async with keeping_journal(bus, Settings(log=Log(keep=0))):
        _log.error("lost")
    assert await events(bus.journal) == []


async def test_a_library_and_a_traceback_are_kept_too(bus: EventBus) -> None:
    async with keeping_journal(bus, Settings()):
        logging.getLogger("some.library").warning("said %s", "this")
        _log.error("a fault of ours", exc_info=RuntimeError("boom"))
    first, second = await said(bus.journal)
    assert (first["event"], first["logger"], first["level"]) == ("said this", "some.library", "warning")
    assert second["exception"].endswith("RuntimeError: boom")


async def test_a_line_may_come_from_another_thread(bus: EventBus) -> None:
    async with keeping_journal(bus, Settings()):
        threads = [threading.Thread(target=_log.info, args=[str(n)]) for n in range(50)]
        for thread in threads:
            thread.start()
        await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
    assert sorted(await events(bus.journal)) == sorted(str(n) for n in range(50))


# -- the journal does not feed itself --------------------------------------------------------------------------------


async def test_what_is_logged_about_the_journal_is_not_in_it(bus: EventBus) -> None:
    async with keeping_journal(bus, Settings()):
        structlog.get_logger(LOGGER).warning("log lines wait for Redis")
        structlog.get_logger("service.gateway").info("request", route=ROUTE, status=200)
        structlog.get_logger("service.gateway").info("request", route="/api/v1/events", status=202)
    assert [line.get("route") for line in await said(bus.journal)] == ["/api/v1/events"]


async def test_requests_that_anybody_can_make_push_nothing_out_of_it(bus: EventBus) -> None:
    edge = structlog.get_logger("service.gateway")
    async with keeping_journal(bus, Settings(log=Log(keep=3))):
        _log.info("what happened")
        for status in (400, 401, 403, 404, 405, 408, 413, 415):
            edge.info("request", route="/api/v1/webhooks/{integration}", status=status)
        for route in OPEN_ROUTES:
            edge.info("request", route=route, status=200)
        edge.info("request", route="/api/v1/webhooks/{integration}", status=202)
        edge.info("request", route="/api/v1/events", status=503)
    assert [line.get("status", line["event"]) for line in await said(bus.journal)] == ["what happened", 202, 503]


def test_the_routes_that_need_no_key_are_those_of_the_gateway() -> None:
    assert {one.path for one in OPERATIONS if one.access not in ("key", "signature")} == set(OPEN_ROUTES)


async def test_a_journal_that_fails_is_told_once_and_not_to_itself(stderr: io.StringIO, bus: EventBus) -> None:
    await bus._connection.do("SET", bus._keys.journal, "in other use")
    async with keeping_journal(bus, Settings()):
        _log.info("one")
        await wait_until(lambda: "log lines wait" in stderr.getvalue(), "it is told", 20)
        _log.info("two")
    assert stderr.getvalue().count("log lines wait") == 1


# -- Redis is away ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def keeping(writer: JournalWriter, journal: Journal) -> AsyncIterator[None]:
    """Bring lines there meanwhile."""
    stop = asyncio.Event()
    task = asyncio.create_task(writer.keep(journal, 10_000, stop))
    try:
        yield
    finally:
        stop.set()
        await task


@pytest.fixture
def writer() -> Iterator[JournalWriter]:
    writer = JournalWriter(Redactor())
    logging.getLogger().addHandler(writer)
    yield writer
    logging.getLogger().removeHandler(writer)


async def test_while_redis_is_away_the_program_goes_on_and_the_newest_lines_come_later(
    stderr: io.StringIO, writer: JournalWriter, bus: EventBus
) -> None:
    async with EventBus.open(NOBODY_LISTENS) as away, keeping(writer, away.journal):
        _log.info("during the outage")
        await wait_until(lambda: "log lines wait" in stderr.getvalue(), "it was tried", 20)
        for number in range(MOST_WAITING):
            _log.info(str(number))
    async with keeping(writer, bus.journal):
        pass
    lines = await events(bus.journal)
    assert lines[0] == "1 log lines were not kept"
    assert lines[1:] == [str(number) for number in range(MOST_WAITING)]


async def test_a_burst_waits_for_nobody_and_what_was_lost_is_counted(writer: JournalWriter, bus: EventBus) -> None:
    for number in range(MOST_WAITING + 7_000):
        _log.info(str(number))
    async with keeping(writer, bus.journal):
        pass
    lines = await said(bus.journal)
    assert (lines[0]["event"], lines[0]["lost"], lines[0]["level"]) == (
        "7,000 log lines were not kept",
        7000,
        "warning",
    )
    assert [line["event"] for line in lines[1:]] == [str(7_000 + number) for number in range(MOST_WAITING)]


async def test_an_answer_that_is_lost_makes_no_line_twice(writer: JournalWriter, proxy: Proxy, namespace: str) -> None:
    async with EventBus.open(proxy.url, namespace=namespace) as bus:
        await bus.journal.append([Said(b'{"event": "before"}')], keep=10)  # from now on Redis knows the script
        proxy.lose_reply(b":journal}")
        _log.info("once")
        async with keeping(writer, bus.journal):
            await wait_until(lambda: proxy.requests[b":journal}"] > 1, "it is asked again", 20)
        assert await events(bus.journal) == ["before", "once", "1 log lines were not kept"]


async def test_a_program_ends_though_redis_never_answers(proxy: Proxy, namespace: str) -> None:
    async with EventBus.open(proxy.url, namespace=namespace) as bus:
        await bus.check_server()
        with suppress(TimeoutError):
            async with asyncio.timeout(8):
                async with keeping_journal(bus, Settings()):
                    proxy.freeze()
                    _log.info("nobody hears this")
                return
        pytest.fail("the program waits for its journal")


# -- what is logged is not to be trusted -----------------------------------------------------------------------------


class _Angry:
    def __repr__(self) -> str:
        raise RuntimeError("no word of me")


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


async def test_no_value_can_break_a_line_or_the_program(writer: JournalWriter, bus: EventBus) -> None:
    text = 'ok\n{"level": "error"}\x00\x1b[2J\u202e{eventbus:main}%s{0}'
    _log.warning(text, text=text, deep={"a": [text]}, half="\ud800", nan=float("nan"), inf=[float("-inf")], odd={1, 2})
    structlog.get_logger("service.%s").info("%s {0} %(x)d", x="%n")
    writer.handle(logging.makeLogRecord({"name": "x", "msg": {"event": _nested(100_000)}, "levelname": "INFO"}))
    writer.handle(logging.makeLogRecord({"name": "x", "msg": "%d", "args": ("no number",), "levelname": "INFO"}))
    writer.handle(logging.makeLogRecord({"name": "x", "msg": _Angry(), "levelname": "INFO"}))
    async with keeping(writer, bus.journal):
        pass
    found = (await search(bus.journal, Query())).lines
    assert found[-1].message == "3 log lines were not kept"
    assert found[0].message == "%s {0} %(x)d"
    document = found[1].document()
    assert "\n" not in document["message"]
    assert document["message"].startswith('ok\\n{"level": "error"}\\x00\\x1b[2J\\u202e')
    assert document["level"] == "warning"
    assert document["fields"]["deep"] == {"a": [text]}
    assert (document["fields"]["nan"], document["fields"]["inf"]) == ("NaN", ["-Infinity"])
    json.dumps(document, allow_nan=False).encode()


@pytest.mark.parametrize("value", ["x" * 1_000_000, ["\U0001f600" * 50_000], {"k" * 100_000: 1}, '"\\' * 50_000])
async def test_a_huge_line_keeps_what_matters_within_its_bytes(
    writer: JournalWriter, bus: EventBus, value: Any
) -> None:
    many = {f"field_{number}": "y" * 1_500 for number in range(20)}
    fault = RuntimeError("E" * 9000 + "the end")
    _log.error("not delivered", integration="github", event_id="the-id", exc_info=fault, v=value, **many)
    async with keeping(writer, bus.journal):
        pass
    (kept,) = await bus.journal.after(START, most=10)
    assert len(kept.line) <= MAX_LINE_BYTES
    line = json.loads(kept.line)
    assert (line["event"], line["level"], line["event_id"]) == ("not delivered", "error", "the-id")
    assert line["cut"] is True
    assert line["exception"].endswith("the end")


async def test_a_message_of_any_length_is_kept_in_part(writer: JournalWriter, bus: EventBus) -> None:
    logging.getLogger("some.library").warning("\U0001f600" * 100_000 + "\x00" * 100_000)
    async with keeping(writer, bus.journal):
        pass
    (line,) = await said(bus.journal)
    assert line["event"].startswith("\U0001f600")
    assert line["level"] == "warning"


# -- secrets ---------------------------------------------------------------------------------------------------------

PEM = "-----BEGIN KEY-----\ncanary-line-1\ncanary-line-2\n-----END KEY-----"


def secretive(url: str) -> Settings:
    endpoint = {
        "name": "x",
        "url": "https://example.com/canary-path",
        "secret": "whsec_Y2FuYXJ5LXdlYmhvb2stc2VjcmV0LTAx",
    }
    config = Webhook.manifest.config.model_validate({"endpoints": [endpoint]})
    return Settings(
        events=Events(url=SecretStr(url)),
        integrations={"webhook": IntegrationSettings(adapter="webhook", config=config)},
        gateway=Gateway(api_keys=(SecretStr("canary-api-key-0001"),)),
    )


async def test_a_secret_that_gets_into_a_line_is_not_kept(bus: EventBus) -> None:
    settings = secretive("redis://:canary%2Fpassword@127.0.0.1:6379/0")
    async with keeping_journal(bus, settings):
        _log.error(
            "failed with canary-api-key-0001", url="redis://:canary%2Fpassword@127.0.0.1", text="canary/password"
        )
        _log.error("x", deep={"headers": ["whsec_Y2FuYXJ5LXdlYmhvb2stc2VjcmV0LTAx"]})
        _log.error("a fault", exc_info=RuntimeError("Bearer canary-api-key-0001"), filler="z" * 10_000)
        _log.info("working", bus="redis://127.0.0.1:6379/0")
    whole = json.dumps(await said(bus.journal))
    assert "canary" not in whole
    assert "Y2FuYXJ5" not in whole
    assert whole.count("[secret]") >= 4
    assert "redis://127.0.0.1:6379/0" in whole


def test_a_secret_of_several_lines_is_known_in_the_form_that_lines_have() -> None:
    settings = Settings(gateway=Gateway(api_keys=(SecretStr(PEM),)))
    said = json.dumps({"event": logs.escaped(f"failed: {PEM}"), "deep": [PEM]})
    assert "canary" in said
    assert "canary" not in redactor(settings)(said)


async def test_a_secret_that_is_cut_through_or_a_number_is_not_kept_either(bus: EventBus) -> None:
    settings = Settings(gateway=Gateway(api_keys=(SecretStr("canary-" * 50), SecretStr("4711471147114711"))))
    async with keeping_journal(bus, settings):
        _log.error("long", error="x" * (logs.MAX_VALUE_CHARACTERS - 20) + "canary-" * 50 + "y" * 100_000)
        _log.error("number", x=4711471147114711, deep=[{"n": 94711471147114711}], integration="github")
    long, number = (await search(bus.journal, Query())).lines[::-1]
    assert long.fields["error"] == "x" * (logs.MAX_VALUE_CHARACTERS - 20) + "[secret]" + "y" * 12 + "..."
    assert number.fields == {"x": "[secret]", "deep": '[{"n":9[secret]}]', "integration": "github"}


# -- programs --------------------------------------------------------------------------------------------------------


async def test_the_lines_of_two_workers_are_found_in_one_place(tmp_path: Path, own_redis: EmbeddedRedis) -> None:
    url = f"embedded://{own_redis.home}"
    path = tmp_path / "eventbus.yaml"
    path.write_text(yaml.safe_dump({"events": {"url": url}, "integrations": {"log": {}}, "worker": {"port": 0}}))
    command = [sys.executable, "-m", "service", "worker", "--config", str(path)]
    async with AsyncExitStack() as stack, EventBus.open(url) as bus:
        workers = [Child(name, command, {}, tmp_path) for name in ("first", "second")]
        for worker in workers:
            await worker.start()
            stack.push_async_callback(worker.stop)
        for worker in workers:
            await worker.wait_for("working", PATIENCE_SECONDS)
        event_id = (await bus.publish(VmCreated(vm_id="1"))).event_id

        async def delivered() -> bool:
            found = await search(bus.journal, Query(event_id=event_id, component="log", contains="delivered"))
            return len(found.lines) > 0

        await wait_until(delivered, "the delivery is found by its event", PATIENCE_SECONDS)
        pids = {worker.pid for worker in workers}
        for worker in workers:
            worker.kill(signal.SIGTERM)
            await worker.wait()
        ends = await search(bus.journal, Query(component="worker", contains="stopping"))
    assert {line.said["pid"] for line in ends.lines} == pids, "what a program says last is kept"
    assert {line.said["program"] for line in ends.lines} == {"worker"}
