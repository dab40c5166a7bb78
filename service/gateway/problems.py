"""Errors as problem documents (RFC 9457). What is shown is safe for strangers; reasons go to the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from eventbus import Conflict, EventBusError, InvalidEvent, Unavailable
from integrations.errors import (
    AuthFailed,
    IntegrationError,
    NotReady,
    OutcomeUnknown,
    RateLimited,
    Refusal,
    ServiceFault,
    Unreachable,
)
from registry.dispatch import Busy, KeyReused, describe
from registry.registry import UnknownIntegration

RETRY_SECONDS = 5

_log = structlog.get_logger("service.gateway")


class Problem(Exception):
    """Raised anywhere in a request: answer with this."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = list(errors)

    def response(self) -> Response:
        """The document."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = self.errors
        return JSONResponse(body, self.status, self.headers, media_type="application/problem+json")


def invalid(error: ValidationError) -> Problem:
    """422 that names every field that does not fit, without the values."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    named = [{"pointer": "/" + "/".join(str(part) for part in f["loc"]), "detail": f["msg"]} for f in faults]
    return Problem(422, "; ".join(f"{n['pointer']}: {n['detail']}" for n in named[:5]), errors=named[:50])


def problem_of(error: Exception) -> Problem:
    """The answer to an error of ours; 500 without a word of detail for anything else."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Refusal):
        return Problem(error.status, error.detail)
    if isinstance(error, InvalidEvent):
        return Problem(422, str(error))
    if isinstance(error, Conflict | KeyReused):
        return Problem(409 if isinstance(error, Conflict) else 422, str(error))
    if isinstance(error, Busy):
        return Problem(409, str(error), headers={"Retry-After": str(RETRY_SECONDS)})
    if isinstance(error, UnknownIntegration):
        return Problem(404, str(error))
    if isinstance(error, Unavailable):
        return Problem(
            503, "the event store is away; nothing was accepted", headers={"Retry-After": str(RETRY_SECONDS)}
        )
    if isinstance(error, EventBusError):
        return Problem(500, "the event store refused")
    if isinstance(error, IntegrationError | TimeoutError):
        return _of_integration(error)
    if isinstance(error, HTTPException):
        return Problem(error.status_code, error.detail, headers=error.headers)
    return Problem(500, "a fault of ours; it is in our log")


def _of_integration(error: IntegrationError | TimeoutError) -> Problem:
    text = describe(error)
    if isinstance(error, RateLimited | NotReady):
        wait = error.retry_after.total_seconds() if error.retry_after is not None else RETRY_SECONDS
        status = 429 if isinstance(error, RateLimited) else 503
        return Problem(status, text, headers={"Retry-After": str(max(1, round(wait)))})
    if isinstance(error, OutcomeUnknown | TimeoutError):
        return Problem(504, f"{text}; it may have been done: repeat with the same Idempotency-Key, it is done once")
    if isinstance(error, AuthFailed | ServiceFault | Unreachable):
        return Problem(502, text)
    return Problem(422, text)  # rejected, misconfigured


EXPECTED: tuple[type[Exception], ...] = (
    Problem,
    Refusal,
    EventBusError,
    IntegrationError,
    UnknownIntegration,
    Busy,
    KeyReused,
    HTTPException,
    TimeoutError,
)
"""What a route may raise. Anything else is a fault of ours."""


async def handle(request: Request, error: Exception) -> Response:
    """Starlette's hook for every error of a request."""
    problem = problem_of(error)
    if isinstance(error, Refusal):
        _log.warning("turned away", path=request.url.path, status=problem.status, reason=error.reason)
    elif problem.status >= 500 and not isinstance(error, Problem):
        fault = not isinstance(error, EventBusError | IntegrationError | TimeoutError)
        _log.error("failed", path=request.url.path, error=describe(error), exc_info=error if fault else None)
    return problem.response()
