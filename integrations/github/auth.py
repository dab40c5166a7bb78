"""How requests are signed: with a token, or as an installation of a GitHub App.

An App proves itself with a JWT, RS256, of at most ten minutes, and exchanges it for an installation token of one hour
(docs.github.com/apps, "Generating a JSON Web Token", "Generating an installation access token"). PyGithub signs the
JWT; the installation token is kept here, one for all threads, because PyGithub's own keeper is not made for threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from github import Auth, GithubIntegration
from github.InstallationAuthorization import InstallationAuthorization
from github.Requester import Requester
from jwt import PyJWTError
from jwt.algorithms import RSAAlgorithm

from integrations.errors import Misconfigured
from integrations.github.config import GitHubConfig

REFRESH_BEFORE_END = timedelta(minutes=5)
"""A token is replaced this long before it ends: clocks differ, and a call must not outlive it."""


class InstallationAuth(Auth.Auth):
    """Gets, keeps and replaces the installation token. Safe for threads."""

    def __init__(self, integration: GithubIntegration, installation_id: int) -> None:
        self._integration = integration
        self._installation_id = installation_id
        self._grant: InstallationAuthorization | None = None
        self._lock = threading.Lock()

    @property
    def token_type(self) -> str:
        return "token"

    @property
    def token(self) -> str:
        with self._lock:
            if self._grant is None or self._grant.expires_at - REFRESH_BEFORE_END < datetime.now(UTC):
                self._grant = None
                self._grant = self._integration.get_access_token(self._installation_id)
            return self._grant.token

    def forget(self) -> bool:
        """Drop the token; False when there was none, so that a fresh one was refused."""
        with self._lock:
            had, self._grant = self._grant is not None, None
            return had

    def app(self) -> tuple[str, tuple[int, int]]:
        """The App's slug, and how many requests remain of how many. Asks `GET /app`."""
        with self.as_app() as requester:
            slug = self._integration.get_app().slug
            return slug, requester.rate_limiting

    @contextmanager
    def as_app(self) -> Iterator[Requester]:
        """What asks as the App itself, with its JWT, for one thread at a time."""
        with self._lock:
            yield self._integration.requester

    def close(self) -> None:
        """Close its connection."""
        self._integration.close()


def app_auth(config: GitHubConfig) -> Auth.AppAuth:
    """The App's own credentials. Raises Misconfigured when the private key can't be read or can't sign."""
    assert config.app_id is not None
    try:
        # Read once: reading a key checks it, which takes forty times as long as signing with it.
        key = RSAAlgorithm(RSAAlgorithm.SHA256).prepare_key(_private_key(config))
        if not isinstance(key, RSAPrivateKey):
            raise TypeError("a public key")  # noqa: TRY301
        auth = Auth.AppAuth(config.app_id, sign_func=lambda claims: jwt.encode(claims, key, "RS256"))
        auth.create_jwt()
    except (ValueError, TypeError, PyJWTError):  # cryptography's complaints about a key, which may repeat it
        raise Misconfigured(
            "the GitHub App's private key is no RSA key in PEM form: use the .pem file that GitHub lets you download"
        ) from None
    return auth


def _private_key(config: GitHubConfig) -> str:
    if config.private_key is not None:
        return config.private_key.get_secret_value().replace("\\n", "\n")
    assert config.private_key_file is not None
    try:
        return config.private_key_file.read_text("ascii")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a PEM file"
        raise Misconfigured(f"private_key_file {config.private_key_file} can't be read: {reason}") from None
