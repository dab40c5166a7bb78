"""Signed in as a GitHub App."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from integrations.base import Artifact, Delivery, DeliveryResult
from integrations.errors import AuthFailed, Misconfigured
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub, app_key

Connect = Callable[[dict[str, Any]], Awaitable[GitHub]]

COMMENT = Artifact(type="comment", content={"owner": "acme", "repo": "api", "number": 7, "body": "hello"})


@pytest.fixture
async def app(fake: FakeGitHub, connect: Connect) -> GitHub:
    return await connect(fake.app_settings())


def asked(fake: FakeGitHub, path: str) -> int:
    return sum(request.path.startswith(path) for request in fake.requests)


async def comment(github: GitHub) -> DeliveryResult:
    return await github.create_artifact(COMMENT, Delivery("key"))


async def test_an_app_writes_under_its_own_name(fake: FakeGitHub, app: GitHub) -> None:
    await comment(app)
    assert fake.comments[-1].author == "acme-deployer[bot]"


async def test_one_installation_token_serves_all_threads(fake: FakeGitHub, app: GitHub) -> None:
    await asyncio.gather(*(comment(app) for _ in range(20)))
    assert len(fake.comments) == 20
    assert asked(fake, "/app/installations/815/access_tokens") == 1


async def test_a_token_is_replaced_before_it_ends(fake: FakeGitHub, app: GitHub) -> None:
    fake.installation_token_seconds = 299  # less than REFRESH_BEFORE_END is left at once
    for _ in range(3):
        await comment(app)
    assert len(fake.installation_tokens) == 3
    assert not any(request.status == 401 for request in fake.requests)


async def test_a_token_that_was_revoked_is_replaced_at_once(fake: FakeGitHub, app: GitHub) -> None:
    await comment(app)
    fake.installation_tokens.clear()
    await comment(app)
    assert len(fake.comments) == 2
    assert asked(fake, "/app/installations/815/access_tokens") == 2


async def test_a_fresh_token_that_is_refused_is_not_replaced_for_ever(fake: FakeGitHub, app: GitHub) -> None:
    await comment(app)
    fake.installation_token_seconds = -1
    fake.installation_tokens.clear()
    with pytest.raises(AuthFailed):
        await comment(app)
    assert len(fake.comments) == 1
    assert len(fake.requests) == 5  # token, comment; refused comment, fresh token, refused comment


@pytest.mark.parametrize("wrong", [{"app_id": "1"}, {"installation_id": 1}])
async def test_an_app_that_github_does_not_know_gets_no_further(
    fake: FakeGitHub, connect: Connect, wrong: dict[str, Any]
) -> None:
    github = await connect({**fake.app_settings(), **wrong})
    result = await asyncio.gather(comment(github), return_exceptions=True)
    assert "app_id" not in wrong or isinstance(result[0], AuthFailed)
    assert isinstance(result[0], Exception)
    assert fake.comments == []
    assert len(fake.requests) == 1


async def test_health_asks_as_the_app(fake: FakeGitHub, app: GitHub) -> None:
    health = await app.health()
    assert health.state == "healthy"
    assert "acme-deployer[bot]" in health.detail
    assert [request.path for request in fake.requests] == ["/app"]


async def test_what_an_app_made_is_found(fake: FakeGitHub, app: GitHub) -> None:
    made = await comment(app)
    found = await app.find(COMMENT, Delivery("key"))
    assert found is not None
    assert (found.reference, found.url) == (made.reference, made.url)


async def test_the_key_may_come_from_a_file_or_with_escaped_line_ends(
    fake: FakeGitHub, connect: Connect, tmp_path: Path
) -> None:
    settings = fake.app_settings()
    file = tmp_path / "app.pem"
    file.write_text(settings.pop("private_key"))
    for key in ({"private_key_file": str(file)}, {"private_key": app_key().replace("\n", "\\n")}):
        assert (await (await connect({**settings, **key})).health()).state == "healthy"


def _not_rsa() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    "key", ["canary", _not_rsa(), "-----BEGIN RSA PRIVATE KEY-----\ncanary\n-----END RSA PRIVATE KEY-----"]
)
async def test_a_key_that_can_not_sign_is_found_at_the_start(fake: FakeGitHub, connect: Connect, key: str) -> None:
    with pytest.raises(Misconfigured, match="no RSA key in PEM form") as caught:
        await connect({**fake.app_settings(), "private_key": key})
    assert "canary" not in caught.value.detail
    assert fake.requests == []


async def test_a_key_file_that_is_not_there_is_named(fake: FakeGitHub, connect: Connect, tmp_path: Path) -> None:
    settings = {**fake.app_settings(), "private_key_file": str(tmp_path / "none.pem")}
    del settings["private_key"]
    with pytest.raises(Misconfigured, match=r"none\.pem can't be read: No such file"):
        await connect(settings)
