"""The part of GitHub's REST API that we use, through PyGithub. It knows nothing of events.

PyGithub blocks, so it runs in a few threads of its own, which also bounds how much is asked at once. It keeps the
request under way in an attribute of its connection (`Requester.py`, class HTTPSRequestsConnectionClass), so every
thread has a client to itself: with one for 8 threads, 5 of 3,000 comments were made twice and 5 never. Everything in
it that repeats or delays a request is off: only the dispatcher tries again.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from github import Auth, Github, GithubException, GithubIntegration
from github.GithubObject import NotSet
from pydantic import SecretStr
from requests import ConnectionError as NoConnection
from requests import ConnectTimeout, RequestException
from requests.exceptions import ProxyError, SSLError
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError

from integrations.errors import (
    AuthFailed,
    IntegrationError,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    ServiceFault,
    Unreachable,
)
from integrations.github.artifacts import Issue, PullRequest
from integrations.github.auth import InstallationAuth, app_auth
from integrations.github.config import GitHubConfig
from integrations.github.place import Place
from integrations.http import MAX_WAIT_SECONDS, Answer

THREADS = 4
TIMEOUT_SECONDS = 12
"""GitHub ends a request after 10 s (docs.github.com/rest, "Troubleshooting the REST API", "Timeouts")."""
PAGE = 100
"""The most that a page may hold (docs.github.com/rest, "Using pagination in the REST API")."""
API_VERSION = "2022-11-28"

SECONDARY_WAIT = timedelta(seconds=60)
"""docs.github.com/rest, "Rate limits", "Exceeding the rate limit": otherwise, wait for at least one minute."""

MAX_DETAIL = 300
_TOKEN = re.compile(r"\b(?:gh[a-z]_\w[\w.-]+|github_pat_\w+|eyJ[\w-]+\.[\w-]+\.[\w-]+)")

T = TypeVar("T")

# At DEBUG it writes whole answers, installation tokens among them.
logging.getLogger("github.Requester").setLevel(logging.INFO)


@dataclass(frozen=True, slots=True)
class Made:
    """What exists at GitHub: a comment's id, or the number of an issue or pull request; and its page."""

    reference: str
    url: str


@dataclass(frozen=True, slots=True)
class Account:
    """Who we are at GitHub, and what is left of the hour's requests (-1: GitHub did not say)."""

    login: str
    remaining: int
    limit: int


class _Thing(Protocol):
    """What comments, issues and pull requests have in common."""

    @property
    def html_url(self) -> str: ...
    @property
    def body(self) -> str | None: ...
    @property
    def user(self) -> Any: ...  # None where the account was deleted, whatever PyGithub's annotations say


class Client:
    """One account. Every call makes one request, or one for each page; a call that is cancelled runs to its end."""

    def __init__(self, config: GitHubConfig) -> None:
        """Make the credentials. Raises Misconfigured when a GitHub App's private key can't be used."""
        self._options: dict[str, Any] = {
            "base_url": config.base_url,
            "timeout": TIMEOUT_SECONDS,
            "user_agent": "eventbus-integrations",
            "per_page": PAGE,
            "retry": None,
            "seconds_between_requests": None,
            "seconds_between_writes": None,
            "lazy": True,
            "api_version": API_VERSION,
        }
        self._token = config.token
        self._auth = self._make_auth(config)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="github")
        self._own = threading.local()
        self._clients: list[Github] = []

    async def create_comment(self, place: Place, body: str) -> Made:
        """Comment on an issue or pull request."""

        def work(github: Github) -> Made:
            comment = github.get_repo(place.repository).get_issue(place.number).create_comment(body)
            return _made(comment.raw_data, "id")

        return await self._run(work)

    async def create_pull_request(self, content: PullRequest, body: str) -> Made:
        """Open a pull request, with `body` in place of the content's own."""

        def work(github: Github) -> Made:
            pull = github.get_repo(content.repository).create_pull(
                content.base, content.head, title=content.title, body=body, draft=content.draft
            )
            return _made(pull.raw_data, "number")

        return await self._run(work)

    async def create_issue(self, content: Issue, body: str) -> Made:
        """Open an issue, with `body` in place of the content's own."""

        def work(github: Github) -> Made:
            issue = github.get_repo(content.repository).create_issue(
                content.title, body, labels=list(content.labels), assignees=list(content.assignees)
            )
            return _made(issue.raw_data, "number")

        return await self._run(work)

    async def find_comment(self, place: Place, markers: Iterable[str], since: datetime | None) -> Made | None:
        """Our comment that bears one of the markers, among those changed since then."""

        def work(github: Github) -> Made | None:
            issue = github.get_repo(place.repository).get_issue(place.number)
            comments = issue.get_comments(since=NotSet if since is None else since)
            return _ours(self._login(github), ((comment, comment.id) for comment in comments), markers)

        return await self._run(work)

    async def find_pull_request(self, content: PullRequest, markers: Iterable[str]) -> Made | None:
        """Our pull request between these branches that bears one of the markers, open or not."""

        def work(github: Github) -> Made | None:
            repo = github.get_repo(content.repository)
            pulls = repo.get_pulls(state="all", head=content.qualified_head, base=content.base)
            return _ours(self._login(github), ((pull, pull.number) for pull in pulls), markers)

        return await self._run(work)

    async def find_issue(self, content: Issue, markers: Iterable[str]) -> Made | None:
        """Our issue that bears one of the markers. It goes through all we ever opened there, newest first: a list
        is complete at once, GitHub's search lags behind."""

        def work(github: Github) -> Made | None:
            login = self._login(github)
            repo = github.get_repo(content.repository)
            issues = repo.get_issues(state="all", sort="created", direction="desc", creator=login)  # type: ignore[arg-type]  # annotated as a user, documented and handled as a string too
            return _ours(login, ((issue, issue.number) for issue in issues), markers)

        return await self._run(work)

    async def account(self) -> Account:
        """Ask GitHub who we are."""

        def work(github: Github) -> Account:
            if isinstance(self._auth, InstallationAuth):
                slug, (remaining, limit) = self._auth.app()
                return Account(_bot(slug), remaining, limit)
            login = github.get_user().login
            return Account(login, *github.requester.rate_limiting)

        return await self._run(work)

    async def close(self) -> None:
        """Wait for the calls under way, then close their connections."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        for github in self._clients:
            github.close()
        if isinstance(self._auth, InstallationAuth):
            self._auth.close()

    def _make_auth(self, config: GitHubConfig) -> Auth.Auth:
        if config.token is not None:
            return Auth.Token(config.token.get_secret_value())
        assert config.installation_id is not None
        return InstallationAuth(GithubIntegration(auth=app_auth(config), **self._options), config.installation_id)

    async def _run(self, work: Callable[[Github], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._call, work)

    def _call(self, work: Callable[[Github], T]) -> T:
        """Runs in a thread of ours."""
        try:
            try:
                return work(self._github())
            except GithubException as error:
                if error.status != 401 or not isinstance(self._auth, InstallationAuth) or not self._auth.forget():
                    raise
            # An installation token was revoked before its hour was over. 401 means that nothing was done, and a
            # fresh token is no new attempt.
            return work(self._github())
        except IntegrationError:
            raise
        except Exception as error:  # noqa: BLE001  # PyGithub lets through whatever an unreadable answer breaks in it
            raise translate(error, self._token) from None

    def _github(self) -> Github:
        if not hasattr(self._own, "github"):
            self._own.github = Github(auth=self._auth, **self._options)
            self._clients.append(self._own.github)
        github: Github = self._own.github
        return github

    def _login(self, github: Github) -> str:
        # Never kept: accounts and Apps can be renamed, and this is asked only after a lost answer.
        return _bot(self._auth.app()[0]) if isinstance(self._auth, InstallationAuth) else github.get_user().login


def _bot(slug: str) -> str:
    """The login under which an App writes."""
    return f"{slug}[bot]"


def _ours(login: str, things: Iterable[tuple[_Thing, int]], markers: Iterable[str]) -> Made | None:
    """The first of the things that we wrote and that bears a marker. A marker that others quote proves nothing."""
    known = tuple(markers)
    for thing, reference in things:
        by_us = thing.user is not None and thing.user.login.lower() == login.lower()
        if by_us and any(marker in (thing.body or "") for marker in known):
            return Made(str(reference), thing.html_url)
    return None


def _made(answer: dict[str, Any], name: str) -> Made:
    """What was created. PyGithub takes a redirect for success, and reads a number out of its address; so this asks
    the answer itself.

    Raises Rejected for a redirect that says so, else OutcomeUnknown.
    """
    if name in answer and "html_url" in answer:
        return Made(str(answer[name]), str(answer["html_url"]))
    if "moved" in str(answer.get("message", "")).lower():
        # docs.github.com/rest, "Best practices", "Follow redirects": a renamed repository answers 307 to a POST.
        raise Rejected("the repository has moved: use its new owner and name")
    raise OutcomeUnknown("GitHub answered without saying what it made")


def translate(error: Exception, token: SecretStr | None = None) -> IntegrationError:
    """What went wrong in PyGithub, as one of ours. A bad answer to a request that left makes the outcome unknown."""
    if isinstance(error, GithubException):
        return _answered(error.status, error.headers or {}, _hidden(_message(error.data), token))
    if isinstance(error, RequestException):
        return _unanswered(error)
    return OutcomeUnknown(f"GitHub's answer can't be read ({type(error).__name__})")


def _answered(status: int, headers: Mapping[str, str], message: str) -> IntegrationError:
    """docs.github.com/rest: "Rate limits" and "Troubleshooting"; a missing right is 403, what we may not see is 404."""
    said = f"GitHub answered {status}" + (f": {message}" if message else "")
    answer = Answer(status, headers, b"")
    if status == 429 or (status == 403 and _is_limit(answer, message)):
        return RateLimited(said, retry_after=_wait(answer))
    if status in (401, 403):
        return AuthFailed(said)
    if status >= 500:
        return ServiceFault(said, retry_after=answer.retry_after())
    if status == 404:
        said += " (there is none, or our credentials may not see it)"
    return Rejected(said)


def _is_limit(answer: Answer, message: str) -> bool:
    text = message.lower()
    return (
        "retry-after" in answer.headers
        or answer.headers.get("x-ratelimit-remaining") == "0"
        or "rate limit" in text
        or "abuse detection" in text  # what Enterprise Server says
    )


def _wait(answer: Answer) -> timedelta:
    """docs.github.com/rest, "Rate limits", "Exceeding the rate limit": retry-after, else the reset, else a minute."""
    wait = answer.retry_after()
    if wait is not None:
        return wait
    reset = answer.headers.get("x-ratelimit-reset", "")
    if answer.headers.get("x-ratelimit-remaining") == "0" and reset.isascii() and reset.isdigit():
        return timedelta(seconds=min(max(int(reset[:12]) - time.time() + 1, 1), MAX_WAIT_SECONDS))
    return SECONDARY_WAIT


def _unanswered(error: RequestException) -> IntegrationError:
    cause = error.args[0] if error.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    name = type(reason if isinstance(reason, HTTPError) else error).__name__
    url = getattr(error.request, "url", None)
    host = urlsplit(url).netloc if isinstance(url, str) else "GitHub"
    never_left = isinstance(error, ConnectTimeout | ProxyError | SSLError)
    if never_left or (isinstance(error, NoConnection) and isinstance(reason, NewConnectionError)):
        return Unreachable(f"no connection to {host} ({name})")
    return OutcomeUnknown(f"{host} gave no answer to a request that had left ({name})")


def _message(data: Any) -> str:
    """GitHub's own words: `message` and what `errors` says of each field."""
    if not isinstance(data, dict) or not isinstance(data.get("message"), str):
        return ""
    errors = data.get("errors")
    faults = [_fault(error) for error in errors[:5]] if isinstance(errors, list) else []
    return ": ".join(filter(None, [data["message"], "; ".join(filter(None, faults))]))


def _fault(error: object) -> str:
    if not isinstance(error, dict):
        return str(error)
    return str(error.get("message") or " ".join(str(error[part]) for part in ("field", "code") if part in error))


def _hidden(text: str, token: SecretStr | None) -> str:
    """One printable line without credentials, even where the service repeats them."""
    if token is not None:
        text = text.replace(token.get_secret_value(), "[hidden]")
    text = _TOKEN.sub("[hidden]", text)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_DETAIL]
