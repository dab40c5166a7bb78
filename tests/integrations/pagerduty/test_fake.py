"""The stand-in keeps PagerDuty's rules, so that a test that passes here means something."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from integrations.pagerduty.fake import FakePagerDuty, check_alert, check_change

OPENAPI_EXAMPLE = {
    # PagerDuty/api-schema, reference/events-v2, POST /enqueue, examples.event
    "payload": {
        "summary": "DISK at 99% on machine prod-datapipe03.example.com",
        "timestamp": "2015-07-17T08:42:58.315+0000",
        "severity": "critical",
        "source": "prod-datapipe03.example.com",
        "component": "mysql",
        "group": "prod-datapipe",
        "class": "disk",
        "custom_details": {"free space": "1%", "ping time": "1500ms", "load avg": 0.75},
    },
    "routing_key": "e93facc04764012d7bfb002500d5d1a6",
    "dedup_key": "srv01/mysql",
    "event_action": "trigger",
    "client": "Sample Monitoring Service",
    "client_url": "https://monitoring.service.com",
    "links": [{"href": "http://pagerduty.example.com", "text": "An example link."}],
    "images": [
        {
            "src": "https://chart.googleapis.com/chart?chs=600x400&chd=t:6,2,9,5,2,5,7,4,8,2,1&cht=lc",
            "href": "https://google.com",
            "alt": "An example link with an image",
        }
    ],
}


def alert(fake: FakePagerDuty, action: str = "trigger", key: str | None = "k", **changes: Any) -> dict[str, Any]:
    payload = {"summary": "s", "severity": "error", "source": "x"}
    body = {"routing_key": fake.routing_key, "event_action": action, "dedup_key": key, "payload": payload} | changes
    return {name: value for name, value in body.items() if value is not None}


async def post(fake: FakePagerDuty, body: Any, path: str = "/v2/enqueue", **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with httpx.AsyncClient(base_url=fake.url, trust_env=False) as http:
        return await http.post(path, content=content, headers=headers)


async def get(fake: FakePagerDuty, path: str, **headers: str) -> httpx.Response:
    given = {"Authorization": f"Token token={fake.api_token}", "Accept": "application/vnd.pagerduty+json;version=2"}
    async with httpx.AsyncClient(base_url=fake.url, trust_env=False) as http:
        return await http.get(path, headers=given | headers)


def test_the_published_example_is_in_order() -> None:
    assert check_alert(OPENAPI_EXAMPLE) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"routing_key": None}, "'routing_key' is missing or blank"),
        ({"routing_key": "short"}, "Length of 'routing_key' is incorrect (should be 32 characters)"),
        ({"event_action": "close"}, "'event_action' is invalid"),
        ({"payload": None}, "'payload' is missing or blank"),
        ({"payload": {"severity": "error", "source": "x"}}, "'payload.summary' is missing or blank"),
        ({"payload": {"summary": "s", "severity": "error"}}, "'payload.source' is missing or blank"),
        ({"payload": {"summary": "s", "source": "x"}}, "'payload.severity' is missing or blank"),
        ({"payload": {"summary": "s", "source": "x", "severity": "high"}}, "'payload.severity' is invalid"),
        ({"payload": {"summary": "s" * 1025, "source": "x", "severity": "error"}}, "Length of 'summary'"),
        ({"payload": {"summary": 7, "source": "x", "severity": "error"}}, "'summary' is not a string"),
        ({"payload": {"summary": "s", "source": "x", "severity": "error", "timestamp": "now"}}, "not a date-time"),
        ({"payload": {"summary": "s", "source": "x", "severity": "error", "custom_details": "d"}}, "not an object"),
        ({"dedup_key": "k" * 256}, "Length of 'dedup_key'"),
        ({"links": [{"text": "t"}]}, "'links.href' is missing or blank"),
        ({"links": {"href": "https://x"}}, "'links' is not an array"),
        ({"images": [{"src": "http://example.com/x.png"}]}, "must be served via HTTPS"),
        ({"client_url": "monitoring"}, "'client_url' is not a URL"),
    ],
)
async def test_what_the_description_does_not_allow_is_answered_with_400(
    fake: FakePagerDuty, change: dict[str, Any], fault: str
) -> None:
    answer = await post(fake, alert(fake, **change))
    body = answer.json()
    assert (answer.status_code, body["status"], body["message"]) == (400, "invalid event", "Event object is invalid")
    assert any(fault in error for error in body["errors"]), body
    assert fake.effects() == []


async def test_what_is_no_json_object_is_answered_as_the_description_shows(fake: FakePagerDuty) -> None:
    for body in (b"{", b"[]", b'"x"'):
        answer = await post(fake, body)
        assert (answer.status_code, answer.json()) == (
            400,
            {
                "status": "Unrecognized object",
                "message": "Event object format is unrecognized",
                "errors": ["JSON parse error"],
            },
        )


async def test_an_event_over_512_kilobytes_is_refused(fake: FakePagerDuty) -> None:
    assert (await post(fake, b'"' + b"x" * 512_000 + b'"')).status_code == 413


async def test_a_trigger_is_answered_with_202_and_its_key_or_a_new_one(fake: FakePagerDuty) -> None:
    answer = await post(fake, alert(fake))
    assert (answer.status_code, answer.json()) == (
        202,
        {"status": "success", "message": "Event processed", "dedup_key": "k"},
    )
    keys = {(await post(fake, alert(fake, key=None))).json()["dedup_key"] for _ in range(2)}
    assert len(keys) == 2
    assert len(fake.alerts) == 3


async def test_a_trigger_of_an_open_alert_adds_to_it_and_after_a_resolve_opens_another(fake: FakePagerDuty) -> None:
    for action in ("trigger", "trigger", "acknowledge", "resolve", "trigger"):
        await post(fake, alert(fake, action))
    assert [(one.status, len(one.log)) for one in fake.alerts] == [("resolved", 4), ("triggered", 1)]


@pytest.mark.parametrize("action", ["acknowledge", "resolve"])
async def test_what_is_about_no_open_alert_is_accepted_and_dropped(fake: FakePagerDuty, action: str) -> None:
    assert (await post(fake, alert(fake, action))).status_code == 202
    await post(fake, alert(fake, routing_key=fake.other_routing_key))
    await post(fake, alert(fake, action))
    assert (len(fake.dropped), fake.open_alerts()) == (2, ["k"]), "dropped for another integration key, too"


async def test_an_acknowledge_or_resolve_needs_a_key_and_no_payload(fake: FakePagerDuty) -> None:
    assert (await post(fake, alert(fake, "resolve", key=None))).status_code == 400
    assert (await post(fake, alert(fake, "resolve", payload=None))).status_code == 202


async def test_the_limit_looks_back_over_sixty_seconds_for_each_key(fake: FakePagerDuty) -> None:
    fake.limit = 3
    codes = [(await post(fake, alert(fake))).status_code for _ in range(4)]
    assert codes == [202, 202, 202, 429]
    assert (await post(fake, alert(fake, routing_key=fake.other_routing_key))).status_code == 202
    calls = fake._events[fake.routing_key]
    calls[0] -= 61
    assert [(await post(fake, alert(fake))).status_code for _ in range(2)] == [202, 429]


async def test_a_change_event_is_kept_and_pages_nobody(fake: FakePagerDuty) -> None:
    body = {"routing_key": fake.routing_key, "payload": {"summary": "Deployed 1.4"}}
    answer = await post(fake, body, "/v2/change/enqueue")
    assert (answer.status_code, fake.effects()) == (202, ["change: Deployed 1.4"])
    assert (await post(fake, {"routing_key": fake.routing_key}, "/v2/change/enqueue")).status_code == 400
    assert "rulesets" in str(check_change({"routing_key": "R" + "0" * 31, "payload": {"summary": "s"}}))


async def test_the_rest_api_takes_one_form_of_token_and_tells_what_is_left(fake: FakePagerDuty) -> None:
    answer = await get(fake, "/abilities")
    assert (answer.status_code, answer.headers["ratelimit-limit"]) == (200, "960")
    assert answer.headers["ratelimit-remaining"] == "959"
    for wrong in (f"Bearer {fake.api_token}", f"Token {fake.api_token}", "Token token=x", ""):
        assert (await get(fake, "/abilities", Authorization=wrong)).status_code == 401
    assert (await get(fake, "/abilities", Accept="*/*")).status_code == 400


async def test_the_rest_limit_is_answered_as_the_page_shows(fake: FakePagerDuty) -> None:
    fake.rest_limit = 1
    await get(fake, "/abilities")
    answer = await get(fake, "/abilities")
    assert (answer.status_code, answer.json()) == (429, {"error": {"message": "Rate Limit Exceeded", "code": 2020}})
    assert 1 <= int(answer.headers["ratelimit-reset"]) <= 61


@pytest.mark.parametrize(
    "change",
    [
        {"type": "page"},
        {"title": ""},
        {"service": {"id": "PXXXXXX", "type": "service_reference"}},
        {"service": {"id": "PF9KMXH"}},
        {"urgency": "medium"},
        {"body": {"type": "incident_body", "details": {"not": "a string"}}},
        {"assignments": [{"assignee": {"id": "PXXXXXX"}}]},
        {"assignments": [{"assignee": {"id": "PXPGF42"}}, {"assignee": {"id": "PLH1HKV"}}]},
        {"assignments": [{"assignee": {"id": "PXPGF42"}}], "escalation_policy": {"id": "PT20YPA"}},
    ],
)
async def test_an_incident_that_the_description_does_not_allow_is_refused(
    fake: FakePagerDuty, change: dict[str, Any]
) -> None:
    incident = {"type": "incident", "title": "t", "service": {"id": "PF9KMXH", "type": "service_reference"}}
    login = {"Authorization": f"Token token={fake.api_token}", "Accept": "application/vnd.pagerduty+json;version=2"}
    signed = login | {"From": "ada@example.com"}
    assert (await post(fake, {"incident": incident | change}, "/incidents", **signed)).status_code == 400
    assert (await post(fake, {"incident": incident}, "/incidents", **login)).status_code == 400, "without From"
    assert (await post(fake, {"incident": incident}, "/incidents", **signed)).status_code == 201
