"""Errors as problem documents (RFC 9457). What is shown is safe for strangers; reasons go to the log.

One table says which status each error of the bus, the registry and the adapters has. An error that is in no table is a
fault of ours: 500 without a word about it to the caller, and its traceback in the log.
"""

from __future__ import annotations

import http
from collections.abc import Mapping, Sequence

import structlog
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from eventbus import Conflict, Full, InvalidEvent, Unavailable
from eventbus.catalog import explain
from integrations.errors import (
    AuthFailed,
    Disabled,
    IntegrationError,
    Misconfigured,
    NotReady,
    OutcomeUnknown,
    RateLimited,
    Refusal,
    ServiceFault,
    Unreachable,
)
from registry.act import Busy, KeyReused
from registry.faults import scrubbed
from registry.judgement import describe
from registry.registry import UnknownIntegration

RETRY_SECONDS = 5
MAX_ERRORS = 50
PROBLEM_TYPE = "application/problem+json"

_TITLES = {status.value: status.phrase for status in http.HTTPStatus} | {
    413: "Content Too Large",
    422: "Unprocessable Content",
}
"""RFC 9110, section 15. Before Python 3.13 http.HTTPStatus has the two of RFC 7231 and 4918."""
_OF_ROUTING = {404: "there is nothing at this address; GET / lists what there is", 405: "not with this method"}

_log = structlog.get_logger("service.gateway")


class FieldFault(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="Dotted; of a batch, with the number of the event before it")
    detail: str


class ProblemDocument(BaseModel):
    """RFC 9457, section 3. `detail` says what is wrong and what to do."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldFault] | None = Field(default=None, description=f"What does not fit, {MAX_ERRORS} fields at most")


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
        body = ProblemDocument(title=_TITLES.get(self.status, "Error"), status=self.status, detail=self.detail)
        if self.errors:
            body.errors = [FieldFault(**fault) for fault in self.errors]
        said = body.model_dump(exclude_none=True)
        return JSONResponse(said, self.status, self.headers, media_type=PROBLEM_TYPE)


def invalid(error: ValidationError) -> Problem:
    """422 that names every field that does not fit, without the values."""
    return Problem(422, explain(error), errors=_fields(error))


def _invalid_event(error: InvalidEvent) -> Problem:
    # The catalogue words a ValidationError and drops it with `from None`; Python keeps it as the context.
    cause = error.__context__
    return Problem(422, str(error), errors=_fields(cause) if isinstance(cause, ValidationError) else ())


def _fields(error: ValidationError) -> list[dict[str, str]]:
    faults = error.errors(include_url=False, include_input=False, include_context=False)[:MAX_ERRORS]
    return [{"field": ".".join(map(str, fault["loc"])), "detail": fault["msg"]} for fault in faults]


def problem_of(error: Exception) -> Problem:
    """The answer to an error of ours; 500 without a word of detail for anything else."""
    match error:
        case Problem():
            return error
        case Refusal():
            return Problem(error.status, error.detail)
        case InvalidEvent():
            return _invalid_event(error)
        case Conflict():
            return Problem(409, str(error))
        case KeyReused():
            return Problem(422, str(error))
        case Busy():
            return Problem(409, str(error), headers=_retry())
        case UnknownIntegration():
            return Problem(404, str(error))
        case Full():
            return Problem(503, "the event store is full; nothing was stored, send it again later", headers=_retry())
        case Unavailable():
            # Also after a publish or an action of which nobody knows how it ended: so no "nothing was done" here.
            text = "the event store does not answer; send it again, with the same Idempotency-Key or event id"
            return Problem(503, text, headers=_retry())
        case IntegrationError() | TimeoutError():
            return _of_integration(error)
        case HTTPException():
            return Problem(error.status_code, _OF_ROUTING.get(error.status_code, error.detail), headers=error.headers)
        case _:
            return Problem(500, "a fault of ours; it is in our log")


def _of_integration(error: IntegrationError | TimeoutError) -> Problem:
    text = describe(error)
    match error:
        case RateLimited() | NotReady() | Disabled():
            wait = RETRY_SECONDS if error.retry_after is None else error.retry_after.total_seconds()
            return Problem(429 if isinstance(error, RateLimited) else 503, text, headers=_retry(wait))
        case OutcomeUnknown() | TimeoutError():
            return Problem(504, f"{text}; it may have been done")
        case AuthFailed() | ServiceFault() | Unreachable():
            return Problem(502, text)
        case Misconfigured():
            return Problem(500, text)
        case _:
            return Problem(422, text)  # rejected


def _retry(seconds: float = RETRY_SECONDS) -> dict[str, str]:
    return {"Retry-After": str(max(1, round(seconds)))}


async def answer(request: Request, error: Exception) -> Response:
    """The response to an error of a request. What operators must know is logged."""
    problem = problem_of(error)
    if isinstance(error, Unavailable):
        _log.warning("not done", error=str(error))
    elif isinstance(error, IntegrationError | TimeoutError):
        _log.warning("not done", error=describe(error), status=problem.status)
    elif problem.status >= 500 and not isinstance(error, Problem | Refusal):
        fault = _discreet(error, request)
        _log.error("a fault of ours", error=str(fault), exc_info=fault)
    return problem.response()


def _discreet(error: Exception, request: Request) -> Exception:
    """The same fault at the same place, without what the caller's headers hold and without values that were checked."""
    said = explain(error) if isinstance(error, ValidationError) else str(error)
    sent = [part for value in request.headers.values() for part in (value, *value.split())]
    return RuntimeError(scrubbed(f"{type(error).__name__}: {said}", sent)).with_traceback(error.__traceback__)
