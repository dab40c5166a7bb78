"""The one way out over HTTP: one request per call, bounded in time and size, its failures told apart.

It never retries and never follows a redirect: both are somebody else's decision. Nothing that is raised or logged
holds a URL's path or query or a header of ours, even where the service repeats them: they may be secrets. That is why
it stands on httpcore and not on httpx's client, which logs every address, keeps cookies and decodes without limit.
Where others choose the address, `guarded` keeps it out of private networks.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import re
import ssl
import time
import zlib
from collections.abc import Collection, Mapping
from datetime import timedelta
from functools import cache
from types import TracebackType
from typing import Self
from urllib.parse import unquote

import httpcore
import httpx

from integrations.errors import (
    AuthFailed,
    IntegrationError,
    Misconfigured,
    NotReady,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    ServiceFault,
    Unreachable,
)
from integrations.exchange import record
from integrations.guard import Guard, GuardedBackend

MAX_ANSWER_BYTES = 1024 * 1024
EXCERPT_CHARACTERS = 200
MAX_WAIT_SECONDS = 86_400
"""A Retry-After longer than a day is taken for a day."""

HIDDEN = "[hidden]"
MIN_SECRET_CHARACTERS = 16
"""A shorter part of an address or header is not taken for a secret: hiding `issues` would spoil the error text."""

_DEFAULT_HEADERS = {"User-Agent": "eventbus-integrations", "Accept": "*/*", "Accept-Encoding": "gzip"}
_PUBLIC_HEADERS = {"accept", "accept-encoding", "content-type", "host", "user-agent"}


class Answer:
    """A finished answer: status, headers and at most MAX_ANSWER_BYTES of body.

    `ours` is what the request held that an error text must not repeat.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes, *, ours: frozenset[str] = frozenset()):
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body
        self._ours = ours

    @property
    def text(self) -> str:
        """The body as text; what is not UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace")

    def excerpt(self) -> str:
        """The start of the body on one line, for an error text, without what was ours."""
        text = self.text
        for secret in sorted(self._ours, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * EXCERPT_CHARACTERS]).split())
        return line[:EXCERPT_CHARACTERS]

    def retry_after(self) -> timedelta | None:
        """The Retry-After header (RFC 9110, section 10.2.3), seconds or a date; None when absent or unreadable."""
        value = self.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdigit():
            return timedelta(seconds=min(int(value[:10]), MAX_WAIT_SECONDS))
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            return timedelta(seconds=min(max(seconds, 0), MAX_WAIT_SECONDS))
        return None


@cache
def _trust() -> ssl.SSLContext:
    """Whose certificates we believe. Made once: reading them takes tens of milliseconds."""
    return httpx.create_ssl_context(trust_env=False)


class Http:
    """A client of one integration: pooled connections, closed with the integration."""

    def __init__(
        self,
        *,
        timeout: timedelta = timedelta(seconds=15),
        connect: timedelta = timedelta(seconds=3),
        guard: Guard | None = None,
    ) -> None:
        self._total = timeout.total_seconds()
        self._connect = connect.total_seconds()
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_trust(),
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5,
            network_backend=None if guard is None else GuardedBackend(guard),
        )

    def guarded(self, allow: Collection[str] = ()) -> Http:
        """A client like this one for addresses that others choose: public ones, and what `allow` excepts.

        `allow`: networks, addresses and host names. It has connections of its own: close it.
        """
        return Http(
            timeout=timedelta(seconds=self._total), connect=timedelta(seconds=self._connect), guard=Guard(allow)
        )

    @property
    def limit(self) -> timedelta:
        """How long a request may take that names no limit of its own: as long as a call of the adapter."""
        return timedelta(seconds=self._total)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout: timedelta | None = None,
        max_answer: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Send one request and return the answer, whatever its status; `check` turns a status into an error.

        `max_answer`: bytes of the body that are read; the connection is closed at a longer one. Raises Unreachable
        when nothing can have been carried out, OutcomeUnknown when it can, Misconfigured when the address or a header
        is none, or the guard's rules can never let it pass.
        """
        total = self._total if timeout is None else timeout.total_seconds()
        began = time.perf_counter()
        try:
            answer = await self._exchange(method, url, headers, content, total, max_answer)
        except IntegrationError as error:
            record(f"{method} {_host(url)}", error.detail, _ms_since(began))
            raise
        record(f"{method} {_host(url)}", f"{answer.status} {answer.excerpt()}".rstrip(), _ms_since(began))
        return answer

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str] | None, content: bytes | None, total: float, most: int
    ) -> Answer:
        sent = False

        async def trace(event: str, info: object) -> None:
            nonlocal sent
            sent = sent or event.endswith("send_request_headers.started")

        try:
            limits = httpx.Timeout(total, connect=min(self._connect, total)).as_dict()
            request = httpx.Request(
                method, url, headers=_DEFAULT_HEADERS, content=content, extensions={"timeout": limits, "trace": trace}
            )
            request.headers.update(headers)
            if not request.url.host:
                raise httpx.InvalidURL("no host")  # noqa: TRY301
            async with asyncio.timeout(total):
                answer = await self._pool.handle_async_request(_wire(request))
                try:
                    head = httpx.Headers(answer.headers)
                    return Answer(answer.status, head, await _read(answer, head, most), ours=_ours(request))
                finally:
                    await answer.aclose()
        except (httpx.InvalidURL, httpcore.UnsupportedProtocol):
            raise Misconfigured(f"{_host(url)}: not an http or https address") from None
        except (httpcore.LocalProtocolError, UnicodeError):
            raise Misconfigured(f"{_host(url)}: the host or a header has characters that HTTP does not allow") from None
        except httpcore.ConnectTimeout:
            error = f"{_host(url)} took no connection within {min(self._connect, total):g} s"
        except (TimeoutError, httpcore.TimeoutException):
            error = f"{_host(url)} did not answer within {total:g} s"
        except (httpcore.NetworkError, httpcore.ProtocolError) as cause:
            error = f"{_host(url)}: {_describe(cause)}"
        if sent:
            raise OutcomeUnknown(error) from None
        raise Unreachable(error) from None


def check(answer: Answer, service: str) -> Answer:
    """Return a 2xx answer; raise what any other status means where the service has no rule of its own.

    RFC 9110 section 15, RFC 6585 section 4 and, for what is worth repeating, the common ground of the services we know.
    """
    if 200 <= answer.status < 300:
        return answer
    said = f"{service} answered {answer.status}" + (f": {answer.excerpt()}" if answer.body else "")
    wait = answer.retry_after()
    if answer.status == 429:
        raise RateLimited(said, retry_after=wait)
    if answer.status in (408, 425):
        raise NotReady(said, retry_after=wait)
    if answer.status == 503 and wait is not None:
        raise NotReady(said, retry_after=wait)
    if answer.status >= 500:
        raise ServiceFault(said, retry_after=wait)
    if answer.status in (401, 403):
        raise AuthFailed(said)
    raise Rejected(said)


def _wire(request: httpx.Request) -> httpcore.Request:
    """The request as httpcore takes it."""
    url = request.url
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    headers, content = request.headers.raw, request.content
    return httpcore.Request(request.method, target, headers=headers, content=content, extensions=request.extensions)


async def _read(answer: httpcore.Response, headers: httpx.Headers, most: int) -> bytes:
    """The body, decoded, cut at `most` before and after decoding: a few bytes of gzip can hold gigabytes."""
    body = bytearray()
    async for part in answer.aiter_stream():
        body += part[: most - len(body)]
        if len(body) >= most:
            break
    if headers.get("content-encoding", "").strip().lower() in ("gzip", "x-gzip"):
        with contextlib.suppress(zlib.error):
            return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, most)
    return bytes(body)


def _ours(request: httpx.Request) -> frozenset[str]:
    """What of a request may be secret: path, query and header values as a whole, and their longer parts."""
    url = request.url
    query = url.query.decode("ascii")
    targets = [url.raw_path.decode("ascii"), url.path, query, unquote(query)]
    values = [value for name, value in request.headers.items() if name not in _PUBLIC_HEADERS]
    parts = [part for text in (*targets, *values) for part in re.split(r"[/?&=\s]", text)]
    return frozenset(
        {target for target in targets if len(target) > 1}
        | {part for part in (*values, *parts) if len(part) >= MIN_SECRET_CHARACTERS}
    )


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def _host(url: str) -> str:
    """Scheme, host and port: the only part of an address that is safe to show."""
    with contextlib.suppress(httpx.InvalidURL, UnicodeError):
        parsed = httpx.URL(url)
        if parsed.host:
            return f"{parsed.scheme}://{parsed.host}" + (f":{parsed.port}" if parsed.port else "")
    return "the configured address"


def _describe(cause: Exception) -> str:
    """What happened, from the class and the operating system's words; a library's own text may hold the URL."""
    root: BaseException = cause
    while root.__cause__ is not None or root.__context__ is not None:
        root = root.__cause__ or root.__context__ or root
    if isinstance(root, OSError) and root.strerror:
        return f"{type(cause).__name__} ({root.strerror})"
    return type(cause).__name__
