"""The one way out over HTTP: one request per call, bounded in time and size, its failures told apart.

It never retries and never follows a redirect: both are somebody else's decision. Nothing that is raised or logged
holds a URL's path or query or a header of ours, even where the service repeats them: they may be secrets. That is why
it stands on httpx's transport and not on its client, which logs every address, keeps cookies and decodes without limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import re
import time
import zlib
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Self
from urllib.parse import unquote

import httpx

from integrations.errors import (
    AuthFailed,
    Misconfigured,
    NotReady,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    ServiceFault,
    Unreachable,
)
from integrations.exchange import record

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


class Http:
    """A client of one integration: pooled connections, closed with the integration."""

    def __init__(
        self, *, timeout: timedelta = timedelta(seconds=15), connect: timedelta = timedelta(seconds=3)
    ) -> None:
        self._total = timeout.total_seconds()
        self._connect = connect.total_seconds()
        self._transport = httpx.AsyncHTTPTransport(trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout: timedelta | None = None,
    ) -> Answer:
        """Send one request and return the answer, whatever its status; `check` turns a status into an error.

        Raises Unreachable when nothing can have been carried out, OutcomeUnknown when it can, Misconfigured when
        the address or a header is none.
        """
        total = self._total if timeout is None else timeout.total_seconds()
        sent, began = False, time.perf_counter()

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
                answer = await self._transport.handle_async_request(request)
                try:
                    whole = Answer(answer.status_code, answer.headers, await _read(answer), ours=_ours(request))
                finally:
                    await answer.aclose()
            record(f"{method} {_host(url)}", f"{whole.status} {whole.excerpt()}".rstrip(), _ms_since(began))
            return whole
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise Misconfigured(f"{_host(url)}: not an http or https address") from None
        except (httpx.LocalProtocolError, UnicodeError):
            raise Misconfigured(f"{_host(url)}: the host or a header has characters that HTTP does not allow") from None
        except httpx.ConnectTimeout:
            error = f"{_host(url)} took no connection within {min(self._connect, total):g} s"
        except (TimeoutError, httpx.TimeoutException):
            error = f"{_host(url)} did not answer within {total:g} s"
        except httpx.HTTPError as cause:
            error = f"{_host(url)}: {_describe(cause)}"
        record(f"{method} {_host(url)}", error, _ms_since(began))
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


async def _read(answer: httpx.Response) -> bytes:
    """The body, decoded, cut at MAX_ANSWER_BYTES before and after decoding: a few bytes of gzip can hold gigabytes."""
    body = bytearray()
    async for part in answer.aiter_raw():
        body += part[: MAX_ANSWER_BYTES - len(body)]
        if len(body) >= MAX_ANSWER_BYTES:
            break
    if answer.headers.get("content-encoding", "").strip().lower() in ("gzip", "x-gzip"):
        with contextlib.suppress(zlib.error):
            return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, MAX_ANSWER_BYTES)
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


def _describe(cause: httpx.HTTPError) -> str:
    """What happened, from the class and the operating system's words; httpx's own text may hold the URL."""
    root: BaseException = cause
    while root.__cause__ is not None or root.__context__ is not None:
        root = root.__cause__ or root.__context__ or root
    if isinstance(root, OSError) and root.strerror:
        return f"{type(cause).__name__} ({root.strerror})"
    return type(cause).__name__
