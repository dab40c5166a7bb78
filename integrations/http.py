"""The one way out over HTTP: one request per call, bounded in time and size, its failures told apart.

It never retries and never follows a redirect: both are somebody else's decision. Nothing that is raised or logged
holds a URL's path or query, a header or a body of ours: they may be secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import time
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Self

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

MAX_ANSWER_BYTES = 1024 * 1024
EXCERPT_CHARACTERS = 200


class Answer:
    """A finished answer: status, headers and at most MAX_ANSWER_BYTES of body."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body

    @property
    def text(self) -> str:
        """The body as text; what is not UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace")

    def excerpt(self) -> str:
        """The start of the body on one line, for an error text."""
        line = " ".join("".join(c if c.isprintable() else " " for c in self.text[: 4 * EXCERPT_CHARACTERS]).split())
        return line[:EXCERPT_CHARACTERS]

    def retry_after(self) -> timedelta | None:
        """The Retry-After header (RFC 9110, section 10.2.3), seconds or a date; None when absent or unreadable."""
        value = self.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdigit():
            return timedelta(seconds=min(int(value[:10]), 86_400))
        with contextlib.suppress(TypeError, ValueError):
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            return timedelta(seconds=min(max(seconds, 0), 86_400))
        return None


class Http:
    """A client of one integration: pooled connections, closed with the integration."""

    def __init__(
        self, *, timeout: timedelta = timedelta(seconds=15), connect: timedelta = timedelta(seconds=3)
    ) -> None:
        self._total = timeout.total_seconds()
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(self._total, connect=connect.total_seconds()),
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": "eventbus-integrations"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

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
        the address is none.
        """
        total = self._total if timeout is None else timeout.total_seconds()
        sent = False

        async def trace(event: str, info: object) -> None:
            nonlocal sent
            sent = sent or event.endswith("send_request_headers.started")

        try:
            async with asyncio.timeout(total):
                request = self._client.build_request(method, url, headers=headers, content=content)
                request.extensions["trace"] = trace
                answer = await self._client.send(request, stream=True)
                try:
                    return Answer(answer.status_code, answer.headers, await _read(answer))
                finally:
                    await answer.aclose()
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise Misconfigured(f"{_host(url)}: not an http or https address") from None
        except (TimeoutError, httpx.TimeoutException):
            error = f"{_host(url)} did not answer within {total:g} s"
        except httpx.HTTPError as cause:
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


async def _read(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part[: MAX_ANSWER_BYTES - len(body)]
        if len(body) >= MAX_ANSWER_BYTES:
            break
    return bytes(body)


def _host(url: str) -> str:
    """Scheme, host and port: the only part of an address that is safe to show."""
    with contextlib.suppress(httpx.InvalidURL):
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
