from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
import structlog.testing
from starlette.exceptions import HTTPException
from starlette.requests import Request

import eventbus
from eventbus import Event
from integrations import errors
from registry.act import Busy, KeyReused
from registry.registry import UnknownIntegration
from service.gateway.problems import Problem, answer, problem_of

Published = Callable[[], Awaitable[list[Event[Any]]]]
VM = {"topic": "vm.created", "data": {"vm_id": "vm-1"}}
CLOUD = {"specversion": "1.0", "id": "c-1", "source": "/ci", "type": "vm.created", "data": {"vm_id": "vm-1"}}

STATUS: list[tuple[Exception, int, str | None]] = [
    (Problem(418, "x"), 418, None),
    (errors.Malformed("x"), 400, None),
    (errors.Unauthorized("x"), 401, None),
    (errors.Replayed("x"), 409, None),
    (errors.TooLarge("x"), 413, None),
    (eventbus.InvalidEvent("x"), 422, None),
    (eventbus.Conflict("x"), 409, None),
    (eventbus.Full("x"), 503, "5"),
    (eventbus.Unavailable("x"), 503, "5"),
    (eventbus.OutcomeUnknown("x"), 503, "5"),
    (KeyReused("x"), 422, None),
    (Busy("x"), 409, "5"),
    (UnknownIntegration("x"), 404, None),
    (errors.RateLimited("x", retry_after=timedelta(seconds=37)), 429, "37"),
    (errors.RateLimited("x", retry_after=timedelta(seconds=0.1)), 429, "1"),
    (errors.RateLimited("x"), 429, "5"),
    (errors.NotReady("x"), 503, "5"),
    (errors.Disabled("x", since=1.0), 503, "5"),
    (errors.AuthFailed("x"), 502, None),
    (errors.ServiceFault("x"), 502, None),
    (errors.Unreachable("x"), 502, None),
    (errors.OutcomeUnknown("x"), 504, None),
    (TimeoutError(), 504, None),
    (errors.Rejected("x"), 422, None),
    (errors.Misconfigured("x"), 500, None),
    (HTTPException(405, headers={"Allow": "GET"}), 405, None),
    (eventbus.Misconfigured("x"), 500, None),
    (ZeroDivisionError("x"), 500, None),
]


@pytest.mark.parametrize(
    ("error", "status", "wait"), STATUS, ids=[f"{type(e).__module__}.{type(e).__name__}" for e, _, _ in STATUS]
)
def test_every_error_has_its_status(error: Exception, status: int, wait: str | None) -> None:
    found = problem_of(error)
    assert (found.status, found.headers.get("Retry-After")) == (status, wait)
    assert found.detail


def test_no_class_of_error_was_forgotten() -> None:
    known = {type(error) for error, _, _ in STATUS}
    ours = {
        one
        for module in (errors, eventbus)
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, errors.IntegrationError | errors.Refusal | eventbus.EventBusError)
    }
    abstract = {errors.IntegrationError, errors.Refusal, eventbus.EventBusError}
    of_the_worker = {eventbus.UnknownVersion, eventbus.UnknownGroup, eventbus.BacklogGrew}  # and of operators
    assert ours - abstract - of_the_worker <= known


def test_an_event_that_may_be_stored_is_not_called_refused() -> None:
    assert "nothing" not in problem_of(eventbus.OutcomeUnknown("x")).detail


def test_a_status_that_nobody_knows_has_a_title_too() -> None:
    assert b'"title":"Error"' in Problem(499, "x").response().body


@pytest.mark.parametrize(
    ("status", "title"), [(413, "Content Too Large"), (422, "Unprocessable Content"), (404, "Not Found")]
)
def test_a_status_has_the_title_of_its_standard_under_every_python(status: int, title: str) -> None:
    assert json.loads(bytes(Problem(status, "x").response().body))["title"] == title


async def test_a_fault_is_logged_with_its_place_and_without_what_the_caller_sent() -> None:
    request = Request({"type": "http", "headers": [(b"authorization", b"Bearer the-key-of-somebody")]})

    def broken() -> None:
        raise ValueError("can't use the-key-of-somebody here")

    with structlog.testing.capture_logs() as lines:
        try:
            broken()
        except ValueError as error:
            response = await answer(request, error)
    assert response.status_code == 500
    assert b"ValueError" not in response.body
    (line,) = lines
    assert (line["event"], line["error"]) == ("a fault of ours", "ValueError: can't use *** here")
    assert line["exc_info"].__traceback__.tb_next.tb_frame.f_code.co_name == "broken"
    assert line["exc_info"].__context__ is None, "a chained error would be printed as it is"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"topic": "vm.created", "data": {}}, "vm_id"),
    ({**VM, "sauce": "/ci"}, "sauce"),
    ({**VM, "type": "vm.created"}, "topic"),
    ({**VM, "time": "0001-01-01T00:00:00+14:00"}, "time"),
    ({**VM, "time": "9999-12-31T23:59:59-12:00"}, "time"),
    ({**CLOUD, "time": "0001-01-01T00:00:00+14:00"}, "time"),
    ({**CLOUD, "dataversion": 7}, "dataversion"),
]


@pytest.mark.parametrize(("body", "field"), WRONG, ids=[f"{field}-{n}" for n, (_, field) in enumerate(WRONG)])
async def test_a_field_that_does_not_fit_stands_in_errors(
    rest: httpx.AsyncClient, published: Published, body: dict[str, Any], field: str
) -> None:
    refused = await rest.post("/api/v1/events", json=body)
    assert (refused.status_code, [fault["field"] for fault in refused.json()["errors"]]) == (422, [field])
    batch = await rest.post("/api/v1/events", json=[VM, body])
    assert (batch.status_code, [fault["field"] for fault in batch.json()["errors"]]) == (422, [f"1.{field}"])
    assert await published() == []
