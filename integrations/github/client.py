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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, TypeVar
from urllib.parse import urlsplit

from github import Auth, Github, GithubException, GithubIntegration
from github.Requester import Requester
from pydantic import SecretStr
from requests import ConnectionError as NoConnection
from requests import ConnectTimeout, RequestException
from requests.exceptions import ProxyError, SSLError
from requests.utils import parse_header_links
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
from integrations.exchange import record
from integrations.github.auth import InstallationAuth, app_auth
from integrations.github.config import GitHubConfig
from integrations.github.writes import Write
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
_READ_ONLY = re.compile(r"\b(?:is locked|archived)\b", re.IGNORECASE)
"""403 "Unable to create comment because issue is locked." and "Repository was archived so is read-only." are about one
thing, and not about our credentials."""
_ACCEPT = {"Accept": "application/vnd.github+json"}
_TOKEN = re.compile(r"\b(?:gh[a-z]_\w[\w.-]+|github_pat_\w+|eyJ[\w-]+\.[\w-]+\.[\w-]+)")

Query = Mapping[str, str]
T = TypeVar("T")

# At DEBUG it writes whole answers, installation tokens among them.
logging.getLogger("github.Requester").setLevel(logging.INFO)


@dataclass(frozen=True, slots=True)
class Made:
    """What exists at GitHub: a comment's id, or the number of an issue or pull request; its page; and by whom."""

    reference: str
    url: str
    login: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """Who we are at GitHub, and what is left of the hour's requests (-1: GitHub did not say)."""

    login: str
    remaining: int
    limit: int


class Gone(Rejected):
    """GitHub has no such thing, or does not show it to us (404, 410)."""


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

    async def send(self, write: Write) -> Made:
        """Make it. Raises Gone where it, or what it belongs to, does not exist."""

        def work(github: Github) -> Made:
            _, answer = github.requester.requestJsonAndCheck(write.method, write.path, input=dict(write.body))
            return _made(answer, write)

        return await self._run(work)

    async def find(self, path: str, query: Query, is_it: Callable[[dict[str, Any]], bool]) -> Made | None:
        """The first thing in a list that our own account wrote and that is the one."""

        def work(github: Github) -> Made | None:
            login = ""
            for thing in _each(github.requester, path, query):
                if is_it(thing):  # first what costs nothing
                    login = login or self._login(github)
                    if _author(thing).lower() == login.lower():
                        return Made(str(thing.get("number") or thing["id"]), str(thing.get("html_url") or ""), login)
            return None

        return await self._run(work)

    async def find_issue(self, repository: str, is_it: Callable[[dict[str, Any]], bool]) -> Made | None:
        """Our issue that is the one, among all we ever opened there, newest first: a list is complete at once, GitHub's
        search lags behind."""
        login = await self._run(self._login)
        query = {"state": "all", "sort": "created", "direction": "desc", "creator": login}
        return await self.find(f"/repos/{repository}/issues", query, is_it)

    async def every(self, path: str, query: Query | None = None, *, within: str = "") -> list[dict[str, Any]]:
        """A whole list; `within` names the field of the answer that holds it."""
        return await self._run(lambda github: list(_each(github.requester, path, query or {}, within)))

    async def asked(self, path: str) -> dict[str, Any]:
        """One thing."""

        def work(github: Github) -> dict[str, Any]:
            answer: dict[str, Any] = github.requester.requestJsonAndCheck("GET", path)[1]
            return answer

        return await self._run(work)

    async def told(self, path: str) -> tuple[dict[str, str], Any]:
        """One thing, or one page, with the headers of the answer in lower case. The App asks about itself as such."""

        def work(github: Github) -> tuple[dict[str, str], Any]:
            with self._for(path, github) as requester:
                return requester.requestJsonAndCheck("GET", path, headers=dict(_ACCEPT))

        return await self._run(work)

    async def delete(self, path: str) -> None:
        """Remove it. Raises Gone where there is none."""
        await self._run(lambda github: github.requester.requestJsonAndCheck("DELETE", path))

    async def deliveries(self, hook: str, since: datetime) -> list[dict[str, Any]]:
        """What a webhook delivered since then, newest first. `hook`: its path below the API's address."""

        def work(github: Github) -> list[dict[str, Any]]:
            with self._for(hook, github) as requester:
                found = _each(requester, f"{hook}/deliveries", {}, headers=_ACCEPT)
                return list(takewhile(lambda one: _moment(one["delivered_at"]) >= since, found))

        return await self._run(work)

    async def deliver_again(self, hook: str, delivery: int) -> None:
        """Ask for one delivery again."""

        def work(github: Github) -> None:
            with self._for(hook, github) as requester:
                requester.requestJsonAndCheck("POST", f"{hook}/deliveries/{delivery}/attempts", headers=dict(_ACCEPT))

        await self._run(work)

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
        integration = GithubIntegration(auth=app_auth(config), **self._options)
        self._listen(integration.requester)
        return InstallationAuth(integration, config.installation_id)

    def _listen(self, requester: Requester) -> None:
        """Record each request: `requestJson` is what everything in PyGithub that we use goes through."""
        send, base = requester.requestJson, self._options["base_url"]

        def recorded(verb: str, url: str, *args: Any, **options: Any) -> tuple[int, dict[str, Any], str]:
            path = urlsplit(url.removeprefix(base)).path
            began = time.perf_counter()
            said = "no answer"
            try:
                status, headers, body = send(verb, url, *args, **options)
                said = str(status)
                return status, headers, body
            finally:
                record(f"{verb} {base}{path}", said, (time.perf_counter() - began) * 1000)

        vars(requester)["requestJson"] = recorded

    @contextmanager
    def _for(self, hook: str, github: Github) -> Iterator[Requester]:
        """Who may ask about a hook: the App itself about its own, our credentials about others."""
        if hook.startswith("/app/") and isinstance(self._auth, InstallationAuth):
            with self._auth.as_app() as requester:
                yield requester
        else:
            yield github.requester

    async def _run(self, work: Callable[[Github], T]) -> T:
        context = copy_context()  # what is recorded in the thread is heard by who asked
        return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, self._call, work)

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
            self._listen(self._own.github.requester)
            self._clients.append(self._own.github)
        github: Github = self._own.github
        return github

    def _login(self, github: Github) -> str:
        # Never kept: accounts and Apps can be renamed, and this is asked only after a lost answer.
        return _bot(self._auth.app()[0]) if isinstance(self._auth, InstallationAuth) else github.get_user().login


def _bot(slug: str) -> str:
    """The login under which an App writes."""
    return f"{slug}[bot]"


def _each(
    requester: Requester, path: str, query: Query, within: str = "", headers: Query | None = None
) -> Iterator[dict[str, Any]]:
    """A list, page after page (docs.github.com/rest, "Using pagination in the REST API"). A page that is not one
    breaks it off with an error: it is never taken for the end."""
    asked: dict[str, Any] = {"per_page": PAGE, **query}
    while path:
        told, page = requester.requestJsonAndCheck("GET", path, parameters=asked, headers=dict(headers or {}))
        yield from page[within] if within else page
        links = parse_header_links(told.get("link", ""))
        path, asked = next((link["url"] for link in links if link.get("rel") == "next"), ""), {}


def _author(thing: dict[str, Any]) -> str:
    """Who wrote it; nobody where the account was deleted. A check run is an App's."""
    if thing.get("app"):
        return _bot(thing["app"]["slug"])
    return str((thing.get("user") or thing.get("creator") or {}).get("login") or "")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _made(answer: dict[str, Any], write: Write) -> Made:
    """What was made. PyGithub takes a redirect for success.

    Raises Rejected for a redirect that says so, else OutcomeUnknown.
    """
    if write.names in answer and (write.page or "html_url" in answer):
        return Made(str(answer[write.names]), write.page or str(answer["html_url"]), _author(answer))
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
    if status == 403 and _READ_ONLY.search(message):
        return Rejected(said)
    if status in (401, 403):
        return AuthFailed(said)
    if status >= 500:
        return ServiceFault(said, retry_after=answer.retry_after())
    if status == 404:
        said += " (there is none, or our credentials may not see it)"
    return Gone(said) if status in (404, 410) else Rejected(said)


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
