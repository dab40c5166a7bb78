"""docs/http.md says what the gateway has; its tables are made of `operations` (tests/docs/test_generated.py)."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

import service.gateway.body
import service.gateway.webhooks
import service.http
from integrations.github.fake import FakeGitHub
from service.gateway import api
from service.gateway.operations import MEASURED, OPERATIONS

TEXT = (Path(__file__).parents[3] / "docs/http.md").read_text()


def test_the_numbers_are_those_of_the_code() -> None:
    words = " ".join(TEXT.split())
    for said in (
        f"The head of a request has {service.http.HEAD_SECONDS:g} s and {service.http.MAX_HEAD_BYTES // 1024} KiB",
        f"its body {service.gateway.body.BODY_SECONDS:g} s",
        f"an idle connection {service.http.IDLE_SECONDS} s; {service.http.MAX_CONNECTIONS} connections at once",
        f"A list of events, at most {api.MAX_BATCH}",
        f"does not confirm within {service.gateway.webhooks.PUBLISH_SECONDS:g} s",
        f"{service.gateway.body.MAX_DEPTH} levels and {service.gateway.body.MAX_KEYS:,} names",
    ):
        assert said in words
    for topic in (*api.RESERVED, *api.OPEN):
        assert f"`{topic}`" in TEXT


SCRIPT = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)[0]
ONLY_STATUS = """curl() { command curl -o /dev/null -w '%{http_code} %{method} %{url}' "$@"; }\n"""


def test_there_is_a_request_for_every_operation() -> None:
    """Of what a path may name, one."""
    asked = [path.removeprefix("ask $GATEWAY") for path in re.findall(r"^ask \S+", SCRIPT, re.MULTILINE)]
    for operation in OPERATIONS:
        pattern = re.sub(r"\{\w+\}", "[^/]+", operation.path)
        assert operation is MEASURED or any(re.fullmatch(pattern, path) for path in asked), operation.path


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="there is no curl or no openssl")
async def test_the_requests_work_as_they_stand_there(http: httpx.AsyncClient, github: FakeGitHub, key: str) -> None:
    variables = {"GATEWAY": str(http.base_url).rstrip("/"), "KEY": key, "GITHUB_WEBHOOK_SECRET": github.webhook_secret}
    child = await asyncio.create_subprocess_exec(
        *("sh", "-euc", ONLY_STATUS + SCRIPT),
        env={"PATH": os.environ["PATH"], "NO_PROXY": "*", **variables},
        stdout=subprocess.PIPE,
    )
    said, _ = await child.communicate()
    lines = said.decode().splitlines()
    assert len(lines) == SCRIPT.count("\nask $GATEWAY")
    assert [line for line in lines if not line.startswith(("200 ", "201 ", "202 "))] == []
