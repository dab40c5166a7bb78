"""Settings that can't work, or would send in the clear, are refused; none is repeated."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from integrations.email.config import EmailConfig, mailbox

BASE: dict[str, Any] = {"host": "smtp.example.com", "sender": "events@example.com", "recipients": ["ops@example.com"]}


@pytest.mark.parametrize(("tls", "port"), [("implicit", 465), ("starttls", 587)])
def test_the_port_follows_from_tls(tls: str, port: int) -> None:
    assert EmailConfig.model_validate(BASE | {"tls": tls}).address == ("smtp.example.com", port)
    assert EmailConfig.model_validate(BASE | {"tls": tls, "port": 2525}).address[1] == 2525


def test_tls_is_the_default() -> None:
    assert EmailConfig.model_validate(BASE).url == "smtps://smtp.example.com:465"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"])
def test_this_machine_may_be_written_to_in_the_clear(host: str) -> None:
    config = EmailConfig.model_validate(BASE | {"host": host, "tls": "none", "username": "u", "password": "p"})
    assert config.address[1] == 25


@pytest.mark.parametrize("host", ["smtp.example.com", "10.0.0.1", "localhost.example.com", "127.0.0.1.example.com"])
def test_another_machine_may_only_when_it_is_named_and_never_with_a_password(host: str) -> None:
    plain = BASE | {"host": host, "tls": "none"}
    with pytest.raises(ValidationError, match="allow_unencrypted"):
        EmailConfig.model_validate(plain)
    named = plain | {"allow_unencrypted": [host]}
    assert EmailConfig.model_validate(named).tls == "none"
    with pytest.raises(ValidationError, match="in the clear"):
        EmailConfig.model_validate(named | {"username": "u", "password": "p"})


@pytest.mark.parametrize("login", [{"username": "u"}, {"password": "canary"}, {"username": "u", "password": ""}])
def test_a_login_has_both_parts(login: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="give both or neither") as caught:
        EmailConfig.model_validate(BASE | login)
    assert "canary" not in str(caught.value)


def test_an_empty_variable_means_not_set() -> None:
    assert EmailConfig.model_validate(BASE | {"username": "", "password": ""}).password is None


@pytest.mark.parametrize("host", ["smtp://smtp.example.com", "smtp.example.com:465", "", "a b", "-x", "x" * 300])
def test_a_host_is_a_name_and_nothing_more(host: str) -> None:
    with pytest.raises(ValidationError, match="host"):
        EmailConfig.model_validate(BASE | {"host": host})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ops",
        "@example.com",
        "ops@",
        "ops@-example.com",
        "ops@example..com",
        "a@b@example.com",
        ".ops@example.com",
        "ops@example.com\r\nBcc: x@example.com",
        "Ops\r\nBcc: x@example.com <ops@example.com>",
        "Ops <ops@example.com> <x@example.com>",
        "ops@b\u00fccher.example",
        "\u00f6ps@example.com",
        f"{'x' * 65}@example.com",
        f"x@{'a.' * 130}com",
        "ops@example.com, x@example.com",
        '"ops@evil.example" <ops@example.com>',
        "=?utf-8?q?a=0d=0aBcc=3A_x=40example=2Ecom?= <ops@example.com>",
        "=?utf-8?q?a=0d=0aBcc=3Ax?=@example.com",
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="is no address such as"):
        mailbox(text)
    with pytest.raises(ValidationError) as caught:
        EmailConfig.model_validate(BASE | {"recipients": [text]})
    assert "x@example.com" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("ops@example.com", "ops@example.com"),
        ("Operations <ops@Example.COM>", "Operations <ops@example.com>"),
        ("B\u00fcro <ops+x@example.com>", "B\u00fcro <ops+x@example.com>"),
        ("o'brien@localhost", "o'brien@localhost"),
    ],
)
def test_an_address_may_have_a_name(text: str, meant: str) -> None:
    assert str(mailbox(text)) == meant


def test_somebody_has_to_be_written_to_and_not_more_than_a_server_must_take() -> None:
    for recipients in ([], [f"r{n}@example.com" for n in range(101)]):
        with pytest.raises(ValidationError, match="recipients"):
            EmailConfig.model_validate(BASE | {"recipients": recipients})


def test_a_domain_that_is_allowed_does_not_allow_those_below_it() -> None:
    config = EmailConfig.model_validate(BASE | {"allowed_targets": ["@Example.org", "ada@example.net"]})
    assert config.may_write_to("x@example.org")
    assert config.may_write_to("ada@example.net")
    assert config.may_write_to("ops@example.com")
    for stranger in ("x@sub.example.org", "x@example.net", "x@notexample.org", "events@example.com"):
        assert not config.may_write_to(stranger)


def test_the_password_is_never_shown() -> None:
    config = EmailConfig.model_validate(BASE | {"username": "u", "password": "canary"})
    assert "canary" not in repr(config) + str(config.model_dump()) + config.model_dump_json()
