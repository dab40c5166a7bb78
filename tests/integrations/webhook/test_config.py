"""Which settings an endpoint takes, and that none of them is shown."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from eventbus.catalog import explain
from integrations.errors import Misconfigured
from integrations.webhook.config import Endpoint, WebhookConfig

SECRET = "whsec_" + "A" * 32
OLD_SECRET = "whsec_" + "B" * 32


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
    assert (one.topics, one.format, one.secrets(0), one.timeout) == ((">",), "standard", (), 15)
    assert (one.retries, one.max_per_minute, one.disable_after_days, one.allow_private) == (None, None, 5, ())


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


@pytest.mark.parametrize("name", ["", "Billing", "bil.ling", "bil ling", "billing\n", "b" * 81, "default"])
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
    assert endpoint(format="plain", secret="any text").secrets(0)
    assert "secret" in fault(format="plain", secret="")


def test_previous_secrets_need_a_new_one_and_room_for_two_signatures() -> None:
    assert "previous_secrets need" in fault(previous_secrets=[SECRET])
    assert "previous_secrets need" in fault(format="plain", secret="new", previous_secrets=["old"])
    assert len(endpoint(secret=SECRET, previous_secrets=[SECRET, SECRET]).secrets(0)) == 3


REPLACED = datetime(2026, 1, 12, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "later", "signing"),
    [(24, 0, 2), (24, 23.99, 2), (24, 24, 1), (168, 167.9, 2), (168, 168, 1), (0, -0.1, 2), (0, 0, 1)],
)
def test_an_old_secret_signs_for_the_overlap_after_it_was_replaced(hours: float, later: float, signing: int) -> None:
    old = {"secret": OLD_SECRET, "replaced": REPLACED.isoformat()}
    one = endpoint(secret=SECRET, previous_secrets=[old], overlap_hours=hours)
    secrets = one.secrets((REPLACED + timedelta(hours=later)).timestamp())
    assert [secret.get_secret_value() for secret in secrets] == [SECRET, OLD_SECRET][:signing]


def test_without_a_word_about_it_the_overlap_is_a_day() -> None:
    old = {"secret": OLD_SECRET, "replaced": REPLACED}
    one = endpoint(secret=SECRET, previous_secrets=[old])
    assert len(one.secrets(REPLACED.timestamp() + 86_399)) == 2
    assert len(one.secrets(REPLACED.timestamp() + 86_400)) == 1


@pytest.mark.parametrize("hours", [-1, 168.1, "nan"])
def test_an_overlap_is_a_week_at_most(hours: object) -> None:
    assert "overlap_hours" in fault(overlap_hours=hours)


def test_when_a_secret_was_replaced_needs_a_time_zone() -> None:
    text = fault(secret=SECRET, previous_secrets=[{"secret": OLD_SECRET, "replaced": "2026-01-12T09:00:00"}])
    assert "replaced" in text
    assert OLD_SECRET not in text


def test_a_signing_key_is_a_secret_like_any_other() -> None:
    key = "whsk_" + base64.b64encode(bytes(32)).decode()
    one = endpoint(secret=key, previous_secrets=[SECRET])
    assert len(one.secrets(0)) == 2
    assert key not in f"{one!r} {one.model_dump_json()}"
    assert "whsk_ and base64 of an ed25519 key" in fault(secret="whsk_canary")


@pytest.mark.parametrize("timeout", [0, 0.09, 61, 99.9, 60_001, "nan", "soon"])
def test_a_time_limit_has_bounds(timeout: object) -> None:
    assert "timeout" in fault(timeout=timeout)


@pytest.mark.parametrize(("timeout", "seconds"), [(0.1, 0.1), (60, 60), (100, 0.1), (5000, 5), (60_000, 60)])
def test_a_time_limit_from_100_on_is_in_milliseconds(timeout: float, seconds: float) -> None:
    assert endpoint(timeout=timeout).timeout == seconds


# -- where it may be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.0.0.5:8080", "169.254.169.254", "[::1]", "[fd00:ec2::254]", "2130706433", "0x7f.1", "localhost"],
)
def test_an_address_that_is_not_public_is_refused_when_the_settings_are_read(host: str) -> None:
    text = fault(url=f"http://{host}/canary")
    assert host.partition(":8080")[0].strip("[]") in text
    assert "canary" not in text


def test_what_the_settings_except_is_accepted() -> None:
    assert endpoint(url="http://10.0.0.5:8080/", allow_private=["10.0.0.0/8"]).host == "http://10.0.0.5:8080"
    assert endpoint(url="http://localhost:8080/", allow_private=["localhost"]).host == "http://localhost:8080"
    assert "10.1.0.5" in fault(url="http://10.1.0.5/", allow_private=["10.0.0.0/16"])


def test_a_port_of_another_service_is_refused() -> None:
    assert "port 25 is not for HTTP" in fault(url="http://mail.example.com:25/")


@pytest.mark.parametrize("allow", ["10.0.0.5/8", "*.example.com", "", "0x7f.1"])
def test_an_exception_that_is_none_is_refused(allow: str) -> None:
    assert "allow_private" in fault(allow_private=[allow])


# -- settings of other programs, as they stand in their manuals --------------------------------------------------------


def test_the_endpoints_of_scratchrobin_are_taken_as_they_are() -> None:
    """Its integration guide, "Configuring Webhooks"."""
    one, two = config(
        {
            "name": "query_completion",
            "url": "https://your-app.com/webhooks/query-completed",
            "events": ["query.completed", "query.failed"],
            "headers": {"Authorization": "Bearer webhook_secret_token"},
            "timeout": 5000,
            "retries": 3,
        },
        {
            "name": "connection_status",
            "url": "https://monitoring.your-app.com/webhooks/connection-status",
            "events": ["connection.connected", "connection.disconnected", "connection.error"],
            "timeout": 10000,
            "retries": 5,
        },
    ).endpoints
    assert (one.topics, one.timeout, one.retries) == (("query.completed", "query.failed"), 5, 3)
    assert (two.timeout, two.retries) == (10, 5)


def test_the_endpoints_of_confiture_are_taken_as_they_are() -> None:
    """Its integration guide, "Webhook Configuration"."""
    (one,) = config(
        {
            "url": "https://api.example.com/migrations",
            "events": ["post_execute", "on_error"],
            "secret": SECRET,
            "timeout": 30,
            "retry": {"max_attempts": 3, "backoff": "exponential"},
        }
    ).endpoints
    assert one.name == "api_example_com"
    assert one.topics == ("migration.completed", "migration.failed")
    assert (one.timeout, one.retries) == (30, 2)


@pytest.mark.parametrize(
    ("retry", "named"),
    [
        ({"max_attempts": 3, "backoff": "linear"}, "backoff"),
        ({"max_attempts": 0}, "retries"),
        ({"max_attempts": "many"}, "retries"),
        ({"max_attempts": 3, "delay": 5}, "retry"),
        (3, "retry"),
    ],
)
def test_a_retry_that_can_not_be_kept_to_is_refused(retry: object, named: str) -> None:
    assert named in fault(retry=retry)


def test_a_misspelt_setting_is_named() -> None:
    assert "tiemout" in fault(tiemout=3)


def test_a_missing_setting_of_an_endpoint_is_named_with_its_place() -> None:
    with pytest.raises(ValidationError) as caught:
        config({"name": "billing", "headers": {"X-Key": "canary"}})
    assert "endpoints.0.url" in explain(caught.value)
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
        ([">"], "silence.started", False),
        (["silence.*"], "silence.started", True),
        (["*.dead_lettered"], "delivery.dead_lettered", False),
        (["delivery.>"], "delivery.dead_lettered", True),
        ([">", "integration.degraded"], "integration.degraded", True),
        ([">", "integration.degraded"], "integration.recovered", False),
    ],
)
def test_the_bookkeeping_is_sent_only_where_a_pattern_names_it(topics: list[str], topic: str, taken: bool) -> None:
    assert endpoint(topics=topics).takes(topic) is taken
