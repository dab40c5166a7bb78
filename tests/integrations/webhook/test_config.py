"""Which settings an endpoint takes, and that none of them is shown."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from eventbus.catalog import explain
from integrations.errors import Misconfigured
from integrations.webhook.config import Endpoint, WebhookConfig

SECRET = "whsec_" + "A" * 32


def endpoint(**changes: Any) -> Endpoint:
    return Endpoint.model_validate({"name": "billing", "url": "https://example.com/hook"} | changes)


def config(*endpoints: dict[str, Any]) -> WebhookConfig:
    return WebhookConfig.model_validate({"endpoints": endpoints})


def fault(**changes: Any) -> str:
    """What a person reads about a wrong endpoint, in pydantic's words and in ours."""
    with pytest.raises(ValidationError) as caught:
        endpoint(**changes)
    return f"{caught.value} {explain(caught.value)}"


def test_two_fields_are_enough() -> None:
    one = endpoint()
    assert (one.topics, one.format, one.secrets, one.timeout) == ((">",), "standard", (), 15)


def test_topics_may_be_called_events() -> None:
    assert endpoint(events=["task.*"]).topics == endpoint(topics=["task.*"]).topics == ("task.*",)


def test_an_address_is_shown_without_path_and_query() -> None:
    one = endpoint(url="https://example.com:8443/canary?token=canary", headers={"Authorization": "canary"})
    assert one.host == "https://example.com:8443"
    assert "canary" not in f"{one!r} {one} {one.model_dump_json()} {config(one.model_dump())!r}"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "canary.example.com/hook",
        "ftp://example.com/canary",
        "https:///canary",
        "https://example.com:port/canary",
        "https://example.com:0/canary",
        "https://[::1/canary",
        "https://example.com/ca nary/canary",
        "https://example.com/\ncanary",
        "https://canary:canary@example.com/",
    ],
)
def test_what_is_no_web_address_is_refused_without_showing_it(url: str) -> None:
    text = fault(url=url)
    assert "url" in text
    assert "canary" not in text


@pytest.mark.parametrize("name", ["", "Billing", "bil.ling", "bil ling", "billing\n", "b" * 81])
def test_a_name_is_one_segment_of_a_topic(name: str) -> None:
    assert "name" in fault(name=name)


@pytest.mark.parametrize("topics", [[], ["Task.*"], ["task.**"], [">.task"]])
def test_what_is_no_pattern_is_refused(topics: list[str]) -> None:
    assert "topics" in fault(topics=topics)


@pytest.mark.parametrize("name", ["Webhook-Id", "x-signature", "CONTENT-TYPE", "Host", "Content-Length"])
def test_a_header_of_ours_can_not_be_replaced(name: str) -> None:
    assert f"{name} is set by the adapter itself" in fault(headers={name: "canary"})


@pytest.mark.parametrize(
    "headers",
    [{"X Key": "canary"}, {"": "canary"}, {"X-Key": ""}, {"X-Key": "canary\r\nX: 1"}, {"X-Key": "canary\u00e9"}],
)
def test_a_header_that_http_does_not_allow_is_refused_without_showing_it(headers: dict[str, str]) -> None:
    text = fault(headers=headers)
    assert "headers" in text
    assert "canary" not in text


@pytest.mark.parametrize("form", ["standard", "cloudevents"])
@pytest.mark.parametrize("secret", ["", "whsec_canary", "canary canary canary canary canary canary"])
def test_a_secret_that_can_not_sign_is_refused_without_showing_it(form: str, secret: str) -> None:
    text = fault(format=form, secret=secret)
    assert "secret" in text
    assert "canary" not in text


def test_an_old_secret_is_checked_like_the_new_one() -> None:
    assert "24 to 64" in fault(secret=SECRET, previous_secrets=["whsec_AAAA"])


def test_a_plain_secret_may_be_any_text_but_none() -> None:
    assert endpoint(format="plain", secret="any text").secrets
    assert "secret" in fault(format="plain", secret="")


def test_previous_secrets_need_a_new_one_and_room_for_two_signatures() -> None:
    assert "previous_secrets need" in fault(previous_secrets=[SECRET])
    assert "previous_secrets need" in fault(format="plain", secret="new", previous_secrets=["old"])
    assert len(endpoint(secret=SECRET, previous_secrets=[SECRET, SECRET]).secrets) == 3


@pytest.mark.parametrize("timeout", [0, 0.09, 61, "nan", "soon"])
def test_a_time_limit_has_bounds(timeout: object) -> None:
    assert "timeout" in fault(timeout=timeout)


def test_a_misspelt_setting_is_named() -> None:
    assert "tiemout" in fault(tiemout=3)


@pytest.mark.parametrize("missing", ["name", "url"])
def test_a_missing_setting_of_an_endpoint_is_named_with_its_place(missing: str) -> None:
    settings = {"name": "billing", "url": "https://example.com/canary"}
    del settings[missing]
    with pytest.raises(ValidationError) as caught:
        config(settings)
    assert f"endpoints.0.{missing}" in explain(caught.value)
    assert "canary" not in str(caught.value)


def test_there_must_be_an_endpoint() -> None:
    with pytest.raises(ValidationError, match="endpoints"):
        config()


def test_two_endpoints_can_not_share_a_name() -> None:
    one = {"name": "billing", "url": "https://example.com/"}
    with pytest.raises(ValidationError, match="used twice: billing"):
        config(one, one)


def test_an_endpoint_is_found_by_name_and_the_only_one_without() -> None:
    one, two = ({"name": name, "url": "https://example.com/"} for name in ("one", "two"))
    assert config(one, two).endpoint("two").name == "two"
    assert config(one).endpoint("").name == config(one).endpoint("default").name == "one"
    with pytest.raises(Misconfigured, match="'three': name one of one, two"):
        config(one, two).endpoint("three")
    with pytest.raises(Misconfigured, match="name one of one, two"):
        config(one, two).endpoint("")
    with pytest.raises(Misconfigured, match="'three': name one of one"):
        config(one).endpoint("three")


@pytest.mark.parametrize(
    ("topics", "topic", "taken"),
    [
        ([">"], "vm.created", True),
        ([">"], "integrations.of.mine", True),
        ([">"], "delivery.dead_lettered", False),
        (["*.*"], "integration.degraded", False),
        (["*.dead_lettered"], "delivery.dead_lettered", False),
        (["delivery.>"], "delivery.dead_lettered", True),
        ([">", "integration.degraded"], "integration.degraded", True),
        ([">", "integration.degraded"], "integration.recovered", False),
    ],
)
def test_the_bookkeeping_is_sent_only_where_a_pattern_names_it(topics: list[str], topic: str, taken: bool) -> None:
    assert endpoint(topics=topics).takes(topic) is taken
