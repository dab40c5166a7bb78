"""What the settings of several adapters have alike: what is empty, which addresses are refused, and in which words."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from integrations.fields import NonEmptySecret, Pattern, Secret, Text, check_address, is_loopback

PROXY = "https://proxy.example.com"


class Account(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    token: Secret = None
    name: Text = None
    previous: tuple[NonEmptySecret, ...] = ()
    topics: tuple[Pattern, ...] = ()


def test_what_is_set_but_empty_is_not_set() -> None:
    assert Account.model_validate({"token": "", "name": ""}) == Account()
    given = Account.model_validate({"token": "canary", "name": "ops"})
    assert given.token is not None
    assert (given.token.get_secret_value(), given.name) == ("canary", "ops")
    assert "canary" not in repr(given)


@pytest.mark.parametrize("field", ["previous", "topics"])
def test_an_empty_one_in_a_list_is_refused(field: str) -> None:
    with pytest.raises(ValidationError):
        Account.model_validate({field: [""]})


def test_what_is_no_topic_pattern_is_refused() -> None:
    assert Account(topics=("vm.*", ">")).topics == ("vm.*", ">")
    with pytest.raises(ValidationError, match="is not a topic pattern"):
        Account(topics=("VM",))


@pytest.mark.parametrize(
    ("host", "stays"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_what_stays_on_this_machine(host: str, stays: bool) -> None:
    assert is_loopback(host) is stays


@pytest.mark.parametrize("given", [PROXY, "https://10.0.0.1:8443/path", "http://localhost:1", "http://[::1]:1/path"])
def test_an_address_by_https_or_on_this_machine_loses_but_its_last_slash(given: str) -> None:
    assert check_address(f"{given}/", such_as=PROXY, sends="the key") == given
    assert check_address(given, such_as=PROXY, sends="the key") == given


@pytest.mark.parametrize(
    "given", ["", "proxy", "ftp://h", "https://", "https://h?a=b", "https://h#a", "https://u:p@h", "https://@h"]
)
def test_what_is_no_address_is_refused_with_one_that_is(given: str) -> None:
    with pytest.raises(ValueError, match=r"is no address such as https://proxy\.example\.com, without \?, # and passw"):
        check_address(given, such_as=PROXY, sends="the key")


@pytest.mark.parametrize("given", ["http://proxy.example.com", "http://10.0.0.1", "http://localhost.example.com"])
def test_nothing_is_sent_over_the_network_in_the_clear(given: str) -> None:
    with pytest.raises(ValueError, match="would send the key in the clear: use https"):
        check_address(given, such_as=PROXY, sends="the key")
