"""Whose name requests are signed with, by botocore: AWS' own chain of sources and its Signature Version 4.

Sources may ask files, programs and a machine's metadata service, and block for minutes: they are asked in a thread of
their own, so that nobody else waits. botocore is an optional dependency, imported when an account is set up.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from integrations.cloudwatch.config import CloudWatchConfig
from integrations.errors import AuthFailed, Misconfigured, NotReady

SIGNED_SERVICE = "monitoring"
"""The service model's endpointPrefix, which is also the name that is signed for."""
NONE_FOUND = (
    "no AWS credentials: set access_key_id and secret_access_key, or profile, or AWS_ACCESS_KEY_ID in the environment, "
    "or give the machine or container a role"
)


class Signer:
    """Signs requests. Made in a thread, since it may read files."""

    def __init__(self, config: CloudWatchConfig) -> None:
        """Raises Misconfigured where botocore is missing or the profile is."""
        self._aws = _botocore()
        self._region = config.region
        self._thread = ThreadPoolExecutor(1, "aws-credentials")
        self._credentials: Any = self._given(config)
        self._session: Any = None if self._credentials else self._chain(config.profile)

    def _given(self, config: CloudWatchConfig) -> Any:
        """Those of the settings; None where there are none."""
        if config.access_key_id is None or config.secret_access_key is None:
            return None
        token = config.session_token.get_secret_value() if config.session_token else None
        return self._aws.Credentials(config.access_key_id, config.secret_access_key.get_secret_value(), token)

    def _chain(self, profile: str | None) -> Any:
        session = self._aws.Session(profile=profile)
        try:
            is_known = profile is None or profile in session.available_profiles
        except self._aws.errors.BotoCoreError as error:
            raise Misconfigured(f"profile {profile}: {error}"[:500]) from None
        if not is_known:
            raise Misconfigured(f"profile {profile} is in neither ~/.aws/config nor ~/.aws/credentials")
        return session

    async def headers(self, url: str, headers: Mapping[str, str], content: bytes) -> dict[str, str]:
        """These headers and those that sign the POST. Raises AuthFailed where there are no credentials."""
        frozen = await self._frozen()
        request = self._aws.AWSRequest(method="POST", url=url, data=content, headers=dict(headers))
        self._aws.SigV4Auth(frozen, SIGNED_SERVICE, self._region).add_auth(request)
        return {str(name): str(value) for name, value in request.headers.items()}

    def close(self) -> None:
        """Let go of the thread, whatever it waits for."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def source(self) -> str:
        """Where the credentials come from, in words."""
        await self._frozen()
        if self._session is None:
            return "access_key_id of the settings"
        return f"AWS' chain: {self._credentials.method}"

    async def _frozen(self) -> Any:
        """The credentials as they are now; the chain renews those that end."""
        if self._session is None:
            return self._credentials.get_frozen_credentials()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._found)

    def _found(self) -> Any:
        try:
            if self._credentials is None:
                self._credentials = self._session.get_credentials()
            if self._credentials is None:
                raise AuthFailed(NONE_FOUND)
            return self._credentials.get_frozen_credentials()
        except (self._aws.errors.HTTPClientError, self._aws.errors.MetadataRetrievalError) as error:
            raise NotReady(f"AWS credentials could not be fetched: {type(error).__name__}: {error}"[:500]) from None
        except (self._aws.errors.BotoCoreError, self._aws.errors.ClientError) as error:
            raise AuthFailed(f"AWS credentials can't be used: {type(error).__name__}: {error}"[:500]) from None


def _botocore() -> SimpleNamespace:
    """What we use of it."""
    try:
        auth, request, credentials, session, errors = (
            importlib.import_module(f"botocore.{name}")
            for name in ("auth", "awsrequest", "credentials", "session", "exceptions")
        )
    except ImportError as error:
        raise Misconfigured(
            f"cloudwatch needs botocore ({error}): pip install 'eventbus-integrations[cloudwatch]'"
        ) from None
    # It writes every canonical request to its debug log, with the session token.
    logging.getLogger("botocore.auth").setLevel(logging.INFO)
    return SimpleNamespace(
        AWSRequest=request.AWSRequest,
        Credentials=credentials.Credentials,
        Session=session.Session,
        SigV4Auth=auth.SigV4Auth,
        errors=errors,
    )
