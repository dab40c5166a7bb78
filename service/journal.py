"""Puts the newest lines of a worker or gateway into the journal, where `eventbus logs` and the gateway find them.

Lines are what standard error gets, as JSON, in batches from the background. A program never waits for its journal and
never fails by it: what Redis does not take stays in bounded memory, the oldest goes, and a line says how many went.
What is logged about the journal, or asked of it, is not in it: it can't feed itself. Reading is `log_lines`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from threading import Lock
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog
from pydantic import SecretStr
from structlog.typing import EventDict, WrappedLogger

from eventbus import EventBus, OutcomeUnknown
from eventbus.ending import end
from eventbus.journal import Journal, Said
from integrations.redact import Redactor, secrets_in
from registry.settings import Settings
from service import logs

LOGGER = "service.journal"
ROUTE = "/api/v1/logs/query"
"""Of the gateway: whoever asks it every second would fill the journal with having asked."""
OPEN_ROUTES = ("/", "/livez", "/readyz", "/metrics", "/metrics/{integration}", "/api/v1/health")
OF_STRANGERS = (400, 401, 403, 404, 405, 408, 413, 415)
"""Statuses that need no key. Who has none must not be able to fill the journal by asking; standard error has it all."""

EVERY_SECONDS = 0.5
LAST_SECONDS = 2.0
"""How long a program that ends waits for its last lines to be taken."""

MOST_WAITING = 2_000
BATCH_LINES = 200
BATCH_BYTES = 256 * 1024
"""One script at most: deliveries share its connection, and must not wait behind it."""

MAX_LINE_BYTES = 8 * 1024
HALF_OF_VALUE = 500
"""Of a line that is longer, so many characters of both ends of each value stay: a traceback says most in its last."""

FIRST = (
    *("event", "timestamp", "level", "logger", "program", "host", "pid"),
    *("integration", "group", "event_id", "error", "exception"),
)
"""What a line that is too long keeps before all else."""

_log = structlog.get_logger(LOGGER)

Redact = Callable[[str], str]


@asynccontextmanager
async def keeping_journal(bus: EventBus, settings: Settings) -> AsyncIterator[None]:
    """Keep what this process logs meanwhile; with `log.keep: 0` nothing. Its last lines are given LAST_SECONDS."""
    if not settings.log.keep:
        yield
        return
    writer, stop = JournalWriter(redactor(settings)), asyncio.Event()
    writer.setLevel(settings.log.keep_level.upper())
    logging.getLogger().addHandler(writer)
    keeping = asyncio.create_task(writer.keep(bus.journal, settings.log.keep, stop), name="journal")
    try:
        yield
    finally:
        logging.getLogger().removeHandler(writer)
        stop.set()
        try:
            await asyncio.wait([keeping], timeout=LAST_SECONDS)
        finally:
            await end([keeping])


def redactor(settings: Settings) -> Redactor:
    """Knows every secret of the settings; of the bus' address only the password, as the rest of it helps who reads."""
    address = urlsplit(settings.events.url.get_secret_value())
    password = SecretStr(unquote(address.password or ""))
    secrets = [*secrets_in([settings.integrations, settings.gateway.api_keys, settings.events.redis, password])]
    return Redactor([SecretStr(text) for secret in secrets for text in (secret, logs.escaped(secret))])


class JournalWriter(logging.Handler):
    """Takes lines from any thread; `keep` brings them to Redis."""

    def __init__(self, redact: Redact) -> None:
        super().__init__()
        self._redact = redact
        self._origin = {"host": socket.gethostname(), "pid": os.getpid()}
        self._waiting: deque[Said] = deque()
        self._lost = 0
        self._mutex = Lock()
        self._is_away = False
        self.setFormatter(logs.formatter(self._of_record, redact=redact))

    def filter(self, record: logging.LogRecord) -> bool:
        """Nothing about the journal itself, and no request that anybody could make."""
        about = record.msg if isinstance(record.msg, Mapping) else {}
        if record.name == LOGGER or about.get("route") == ROUTE:
            return False
        is_request = about.get("event") == "request"
        return not (is_request and (about.get("route") in OPEN_ROUTES or about.get("status") in OF_STRANGERS))

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a line. Raises nothing: one that can't be written down is counted."""
        try:
            line = Said(_bytes(self.format(record)), record.levelno >= logging.WARNING)
        except Exception:  # noqa: BLE001  whatever somebody logs, logging it fails nobody
            line = None
        with self._mutex:
            if line is None:
                self._lost += 1
                return
            self._waiting.append(line)
            self._make_room()

    async def keep(self, journal: Journal, keep: int, stop: asyncio.Event) -> None:
        """Bring lines to Redis until `stop`, and then the last ones."""
        is_last = False
        while not is_last:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
                    await stop.wait()
            is_last = stop.is_set()  # what is logged while the last ones are sent is lost
            try:
                await self._flush(journal, keep)
                self._is_away = False
            except Exception as error:  # noqa: BLE001  whatever is wrong with the journal, the program goes on
                if not self._is_away:
                    _log.warning("log lines wait for Redis; the oldest will be lost", error=str(error))
                self._is_away = True

    async def _flush(self, journal: Journal, keep: int) -> None:
        while (batch := self._batch()) or self._lost:
            lost = self._lost
            try:
                await journal.append([*self._gap(lost), *batch], keep=keep)
            except OutcomeUnknown:
                with self._mutex:
                    self._lost += len(batch)  # they may be there; twice would be worse
                raise
            except BaseException:
                self._put_back(batch)
                raise
            with self._mutex:
                self._lost -= lost

    def _batch(self) -> list[Said]:
        batch: list[Said] = []
        size = 0
        with self._mutex:
            while self._waiting and len(batch) < BATCH_LINES and size + len(self._waiting[0].line) <= BATCH_BYTES:
                batch.append(self._waiting.popleft())
                size += len(batch[-1].line)
        return batch

    def _put_back(self, batch: list[Said]) -> None:
        with self._mutex:
            self._waiting.extendleft(reversed(batch))
            self._make_room()

    def _make_room(self) -> None:
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self._lost += 1

    def _gap(self, lost: int) -> Iterator[Said]:
        if lost:
            said = {"event": f"{lost:,} log lines were not kept", "level": "warning", "logger": LOGGER, "lost": lost}
            said |= structlog.contextvars.get_contextvars()
            yield Said(_bytes(self._written(said, time.time())), is_warning=True)

    # -- one line --------------------------------------------------------------------------------------------------

    def _of_record(self, _: WrappedLogger, __: str, event: EventDict) -> str:
        """The last processor: a line of ours or of a library, with all that was bound."""
        record: logging.LogRecord = event.pop("_record")
        del event["_from_structlog"]
        return self._written(event, record.created)

    def _written(self, said: Mapping[str, Any], created: float) -> str:
        at = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        text = self._redacted({**self._origin, **said, "timestamp": at})
        if 4 * len(text) <= MAX_LINE_BYTES or len(_bytes(text)) <= MAX_LINE_BYTES:
            return text
        return _cut(json.loads(text))

    def _redacted(self, line: Mapping[str, Any]) -> str:
        """As JSON. Where a secret was logged as a number, all that the line says is text."""
        written = _json(line)
        text = self._redact(written)
        if text == written or _is_json(text):
            return text
        return _json({name: self._redact(one if isinstance(one, str) else _json(one)) for name, one in line.items()})


_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=repr).encode


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # half of a surrogate pair has no UTF-8


def _cut(line: Mapping[str, Any]) -> str:
    """As much of a line as MAX_LINE_BYTES hold, both ends of long values, and that it was cut."""
    kept: dict[str, Any] = {"cut": True}
    room = MAX_LINE_BYTES - len(_json(kept))
    for name in sorted(line, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST)):
        value = _ends(line[name])
        size = len(_bytes(_json({name: value})))
        if size <= room:
            kept[name] = value
            room -= size
    return _json(kept)


def _ends(value: Any) -> Any:
    text = value if isinstance(value, str) else _json(value)
    if len(text) <= 2 * HALF_OF_VALUE:
        return value
    return f"{text[:HALF_OF_VALUE]} ... {text[-HALF_OF_VALUE:]}"
