"""Whose credentials are used, where they come from, and that nobody waits for them."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from eventbus.catalog import catalog
from eventbus.topics import MigrationCompleted
from integrations.base import Delivery
from integrations.cloudwatch import CloudWatch
from integrations.cloudwatch.credentials import NONE_FOUND
from integrations.cloudwatch.fake import FakeCloudWatch
from integrations.errors import AuthFailed, IntegrationError, Misconfigured
from integrations.testing.fake import FakeService
from integrations.testing.rig import connected

EVENT = catalog.event(MigrationCompleted(migration="add_email", environment="production", duration_ms=2310))
DELIVERY = Delivery("key-1")


class FakeContainer(FakeService):
    """What ECS and EKS give a container (SDK reference guide, "Container credential provider")."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.lasts = timedelta(hours=6)

    def routes(self) -> Sequence[BaseRoute]:
        return [Route("/credentials", self._credentials)]

    async def _credentials(self, request: Request) -> Response:
        self.asked += 1
        return JSONResponse(
            {
                "AccessKeyId": FakeCloudWatch.access_key_id,
                "SecretAccessKey": FakeCloudWatch.secret_access_key,
                "Token": "canary-session-token",
                "Expiration": (datetime.now(UTC) + self.lasts).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )


class FakeMachine(FakeService):
    """The metadata service of a machine at EC2 that has a role, version 2 only (User Guide, "Use the Instance Metadata
    Service", "How Instance Metadata Service Version 2 works")."""

    role = "events-worker"
    token = "canary-of-the-session"

    def routes(self) -> Sequence[BaseRoute]:
        role = "/latest/meta-data/iam/security-credentials/"
        return [
            Route("/latest/api/token", self._session, methods=["PUT"]),
            Route(role, self._role),
            Route(role + self.role, self._credentials),
        ]

    async def _session(self, request: Request) -> Response:
        # "a PUT request to initiate a session"; the header "specifies the time to live (TTL)", at most six hours.
        seconds = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not seconds.isdecimal() or not 1 <= int(seconds) <= 21_600:
            return Response(status_code=400)
        return PlainTextResponse(self.token)

    def _is_of_a_session(self, request: Request) -> bool:
        return request.headers.get("x-aws-ec2-metadata-token") == self.token

    async def _role(self, request: Request) -> Response:
        # "401 - Unauthorized - The GET request uses an invalid token."
        return PlainTextResponse(self.role) if self._is_of_a_session(request) else Response(status_code=401)

    async def _credentials(self, request: Request) -> Response:
        if not self._is_of_a_session(request):
            return Response(status_code=401)
        now = datetime.now(UTC)
        return JSONResponse(
            {
                "Code": "Success",
                "Type": "AWS-HMAC",
                "LastUpdated": f"{now:%Y-%m-%dT%H:%M:%SZ}",
                "AccessKeyId": FakeCloudWatch.access_key_id,
                "SecretAccessKey": FakeCloudWatch.secret_access_key,
                "Token": "canary-session-token",
                "Expiration": f"{now + timedelta(hours=6):%Y-%m-%dT%H:%M:%SZ}",
            }
        )


@pytest.fixture(autouse=True)
def _no_credentials_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
async def fake() -> AsyncIterator[FakeCloudWatch]:
    async with FakeCloudWatch() as fake:
        yield fake


@pytest.fixture
async def container(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeContainer]:
    async with FakeContainer() as container:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{container.url}/credentials")
        yield container


@pytest.fixture
async def machine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeMachine]:
    async with FakeMachine() as machine:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.url)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        monkeypatch.setenv("AWS_METADATA_SERVICE_TIMEOUT", "10")  # of seconds; a busy machine is not a failure
        yield machine


def chained(fake: FakeCloudWatch, **settings: Any) -> dict[str, Any]:
    """Settings without credentials of their own."""
    return {"region": fake.region, "endpoint": fake.url} | settings


async def test_the_environment_will_do(fake: FakeCloudWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", fake.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", fake.secret_access_key)
    async with connected(CloudWatch, fake, chained(fake)) as adapter:
        await adapter.handle_event(EVENT, DELIVERY)
        assert isinstance(adapter, CloudWatch)
        assert (await adapter.examine())[0].what == "AWS' chain: env"
    assert len(fake.data) == 1


async def test_a_profile_is_found_by_its_name(fake: FakeCloudWatch, tmp_path: Path) -> None:
    keys = f"aws_access_key_id = {fake.access_key_id}\naws_secret_access_key = {fake.secret_access_key}\n"
    (tmp_path / "credentials").write_text(f"[other]\naws_access_key_id = x\n[ops]\n{keys}")
    async with connected(CloudWatch, fake, chained(fake, profile="ops")) as adapter:
        await adapter.handle_event(EVENT, DELIVERY)
    assert len(fake.data) == 1


async def test_a_profile_that_does_not_exist_is_named(fake: FakeCloudWatch) -> None:
    with pytest.raises(Misconfigured, match="profile ops is in neither"):
        async with connected(CloudWatch, fake, chained(fake, profile="ops")):
            pass


async def test_a_file_of_profiles_that_can_not_be_read_is_named(fake: FakeCloudWatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("no section\n")
    with pytest.raises(Misconfigured, match="profile ops: Unable to parse config file"):
        async with connected(CloudWatch, fake, chained(fake, profile="ops")):
            pass
    async with connected(CloudWatch, fake, chained(fake)) as adapter:
        with pytest.raises(AuthFailed, match="Unable to parse config file"):
            await adapter.handle_event(EVENT, DELIVERY)


async def test_a_containers_role_is_asked_once_and_its_token_is_signed(
    fake: FakeCloudWatch, container: FakeContainer
) -> None:
    async with connected(CloudWatch, fake, chained(fake)) as adapter:
        await asyncio.gather(*(adapter.handle_event(EVENT, DELIVERY) for _ in range(20)))
    assert (len(fake.data), container.asked) == (20, 1)
    assert fake.requests[0].headers["x-amz-security-token"] == "canary-session-token"
    assert "x-amz-security-token" in fake.requests[0].headers["authorization"]


async def test_a_machines_role_is_found_by_its_metadata_service_and_its_token_is_signed(
    fake: FakeCloudWatch, machine: FakeMachine
) -> None:
    async with connected(CloudWatch, fake, chained(fake)) as adapter:
        await asyncio.gather(*(adapter.handle_event(EVENT, DELIVERY) for _ in range(20)))
        assert isinstance(adapter, CloudWatch)
        assert (await adapter.examine())[0].what == "AWS' chain: iam-role"
    assert len(fake.data) == 20
    assert [one.path for one in machine.requests].count(
        f"/latest/meta-data/iam/security-credentials/{machine.role}"
    ) == 1
    assert fake.requests[0].headers["x-amz-security-token"] == "canary-session-token"
    assert "x-amz-security-token" in fake.requests[0].headers["authorization"]


async def test_credentials_that_end_are_renewed(fake: FakeCloudWatch, container: FakeContainer) -> None:
    container.lasts = timedelta(minutes=5)  # botocore renews what ends within ten minutes
    async with connected(CloudWatch, fake, chained(fake)) as adapter:
        await adapter.handle_event(EVENT, DELIVERY)
        container.lasts = timedelta(hours=6)
        await adapter.handle_event(EVENT, DELIVERY)
    assert container.asked >= 2
    assert len(fake.data) == 2


async def test_the_event_loop_goes_on_while_a_source_does_not_answer(
    fake: FakeCloudWatch, container: FakeContainer
) -> None:
    held = container.hold()
    async with connected(CloudWatch, fake, chained(fake)) as adapter:
        working = asyncio.create_task(adapter.handle_event(EVENT, DELIVERY))
        await asyncio.wait_for(held.committed.wait(), 5)  # this very loop has served the request
        assert not working.done()
        held.released.set()
        await working
    assert len(fake.data) == 1


async def test_without_any_it_says_where_they_may_come_from(fake: FakeCloudWatch) -> None:
    async with connected(CloudWatch, fake, chained(fake)) as adapter:
        with pytest.raises(AuthFailed) as caught:
            await adapter.handle_event(EVENT, DELIVERY)
        assert caught.value.detail == NONE_FOUND
        assert (await adapter.health()).state == "unhealthy"
        assert isinstance(adapter, CloudWatch)
        assert [(one.about, one.level) for one in await adapter.examine()] == [("credentials", "fail")]
    assert fake.requests == []


async def test_a_source_that_is_out_of_order_is_no_fault_of_the_adapter(
    fake: FakeCloudWatch, container: FakeContainer
) -> None:
    container.go_down()
    async with connected(CloudWatch, fake, chained(fake)) as adapter:
        with pytest.raises(IntegrationError, match="AWS credentials"):
            await adapter.handle_event(EVENT, DELIVERY)


async def test_without_botocore_the_extra_is_named(fake: FakeCloudWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.auth", None)
    with pytest.raises(Misconfigured, match=r"pip install 'eventbus-integrations\[cloudwatch\]'"):
        async with connected(CloudWatch, fake):
            pass


async def test_a_session_token_is_in_no_debug_log(fake: FakeCloudWatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    settings = fake.settings() | {"session_token": "canary-session-token"}
    async with connected(CloudWatch, fake, settings) as adapter:
        await adapter.handle_event(EVENT, DELIVERY)
    assert json.loads(fake.requests[0].body)["Namespace"] == "Confiture"
    assert "canary" not in caplog.text
