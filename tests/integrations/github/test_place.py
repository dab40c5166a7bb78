from __future__ import annotations

import pytest

from integrations.errors import Rejected
from integrations.github.place import Place, parse_pull_request, parse_target

WEB = "https://github.com"


@pytest.mark.parametrize(
    ("url", "web"),
    [
        ("https://github.com/acme/api.v2/pull/7", WEB),
        ("https://GitHub.com/acme/api.v2/pull/7/files?w=1#diff-1", WEB),
        ("https://git.acme.example:8443/acme/api.v2/pull/7", "https://git.acme.example:8443"),
    ],
)
def test_the_address_of_a_pull_request_is_read(url: str, web: str) -> None:
    assert parse_pull_request(url, web) == Place("acme/api.v2", 7)


@pytest.mark.parametrize(
    "url",
    [
        "https://gitlab.com/acme/api/pull/7",
        "https://github.com.evil.example/acme/api/pull/7",
        "https://github.com@evil.example/acme/api/pull/7",
        "https://evil@github.com/acme/api/pull/7",
        "https://api.github.com/acme/api/pull/7",
        "https://github.com/acme/api/issues/7",
        "https://github.com/acme/../pull/7",
        "https://github.com/acme/./pull/7",
        "https://github.com/../api/pull/7",
        "https://github.com/acme/api/pull/x",
        "https://github.com/acme/api/pull/7e9",
        "https://github.com/acme/a%2fb/pull/7",
        "javascript://github.com/acme/api/pull/7",
        "https://[github.com/acme/api/pull/7",
        "acme/api#7",
        "",
    ],
)
def test_any_other_address_is_rejected(url: str) -> None:
    with pytest.raises(Rejected):
        parse_pull_request(url, WEB)


def test_a_target_is_owner_repo_and_number() -> None:
    assert parse_target("acme/.github#12") == Place("acme/.github", 12)
    assert str(parse_target("acme/api#12")) == "acme/api#12"


@pytest.mark.parametrize(
    "target", ["", "acme/api", "acme#1", "acme/..#1", "acme/.#1", "a/b/c#1", "acme/api#1 ", "acme/api#x"]
)
def test_any_other_target_is_rejected(target: str) -> None:
    with pytest.raises(Rejected, match="owner/repo#123"):
        parse_target(target)
