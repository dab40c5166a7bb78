"""GitHub's REST API on a real port, as far as we use it, with the rules that its documentation states.

Each rule stands beside the page it is from; "REST" is docs.github.com/rest, "Apps" docs.github.com/apps, "Webhooks"
docs.github.com/webhooks. It knows one account (a token, and a GitHub App with one installation), and the repositories
in `repositories`. Pages for people are on `web`, as they would be.
"""

from __future__ import annotations

import functools
import json
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from integrations.base import InboundRequest
from integrations.http import Http
from integrations.signing import sign_plain
from integrations.testing.fake import FakeService

MAX_BODY = 65_536
MAX_TITLE = 256
MAX_STATUS = 140
MAX_SUMMARY = 65_535
MAX_JWT_SECONDS = 600

Handler = Callable[[Request], Awaitable[Response]]


@dataclass
class Thread:
    """An issue or a pull request: they share one sequence of numbers."""

    repository: str
    number: int
    author: str
    title: str
    body: str | None
    created: datetime
    updated: datetime
    state: str = "open"
    head: str = ""
    base: str = ""
    draft: bool = False
    labels: list[str] = field(default_factory=list)
    assignees: list[str] = field(default_factory=list)

    @property
    def is_pull(self) -> bool:
        """True for a pull request."""
        return bool(self.head)


@dataclass
class Remark:
    """A comment."""

    id: int
    repository: str
    number: int
    author: str
    body: str
    created: datetime
    updated: datetime


@dataclass
class Hook:
    """How a webhook is set up (REST, "Repository webhooks"): `secret` is shown masked, and not at all without one."""

    active: bool = True
    has_secret: bool = True
    insecure_ssl: bool = False


@dataclass
class Sent:
    """One attempt at a webhook, as GitHub records it (REST, "List deliveries for a webhook"). `hook`: its path."""

    id: int
    hook: str
    guid: str
    event: str
    status: int
    at: datetime
    redelivery: bool = False
    payload: Mapping[str, Any] = field(default_factory=dict)


Changed = TypeVar("Changed", Thread, Remark)


class _Refused(Exception):
    def __init__(self, status: int, message: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(message)
        self.response = JSONResponse({"message": message, **more}, status, dict(headers or {}))


class FakeGitHub(FakeService):
    """`acme/api` exists, and pull request 7 in it, which somebody else opened."""

    def __init__(self, *, port: int = 0, web: str = "https://github.com") -> None:
        super().__init__(port=port)
        self.web = web
        self.login = "acme-bot"
        self.token = f"ghp_{secrets.token_hex(18)}"
        self.webhook_secret = "It's a Secret to Everybody"  # noqa: S105  # the documentation's own example
        self.app_id = "4711"
        self.app_slug = "acme-deployer"
        self.installation_id = 815
        self.installation_token_seconds = 3600
        self.installation_tokens: dict[str, float] = {}
        self.repositories = {"acme/api"}
        self.moved: set[str] = set()
        """Repositories that were renamed: a POST to one is redirected."""
        self.forbidden: set[str] = set()
        """Repositories that our credentials may read but not write."""
        self.limit = 5000
        self.used = 0
        self.broken_page = 0
        """Which page of any list is answered with 502."""
        self.secondary_limit: int | None = None
        """How many texts may be made in a minute; REST, "Rate limits": 80."""
        self.hourly_limit: int | None = None
        """And in an hour; the same page: 500."""
        self.read_only: dict[str, str] = {}
        """Issues (`acme/api#7`) and repositories that take nothing new, and GitHub's words for it."""
        self.commits: dict[str, str] = {"1" * 40: "acme/api"}
        """Known commits, and where they are."""
        self.statuses: list[dict[str, Any]] = []
        self.checks: list[dict[str, Any]] = []
        self.requested: dict[str, set[str]] = {}
        """Who is asked for a review, by pull request; teams as `@name`."""
        self.reviews: dict[str, list[str]] = {}
        self.collaborators = {"ada", "grace"}
        self.teams = {"core"}
        self.classic_scopes: str | None = "repo"
        """Scopes of the token; None: it is a fine-grained one."""
        self.token_ends: datetime | None = None
        self.permissions = {"pull_requests": "write", "issues": "write", "metadata": "read"}
        """What the installation was granted."""
        self.suspended = False
        self.hooks = {path: Hook() for path in ("/app/hook", "/repos/acme/api/hooks/292430182", "/orgs/acme/hooks/12")}
        self.hook_url = ""
        """Where webhooks are sent when they are asked for again; empty: the wish is noted, and nothing is sent."""
        self.sent: list[Sent] = []
        self.redelivered: list[str] = []
        """Webhooks that we were asked to repeat, by GUID."""
        self.redelivery_limit: int | None = None
        """How many of them before a secondary limit is met; REST, "Rate limits": 900 points a minute, 5 for each."""
        self.pulls: list[Thread] = []
        self.issues: list[Thread] = []
        self.comments: list[Remark] = []
        self._made: list[str] = []
        self._writes: list[float] = []
        self._next_id = 2_147_483_650  # "ids are 64 bit" (GitHub changelog, 2021): none fits into 32
        self.open_pull("acme/api", "feature/email", "main", number=7, title="Add e-mail to users")

    # -- what tests and demos do here ------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Signed in with the token."""
        return {"token": self.token, **self._places()}

    def app_settings(self) -> dict[str, Any]:
        """Signed in as the GitHub App."""
        key = {"app_id": self.app_id, "installation_id": self.installation_id, "private_key": app_key()}
        return {**key, **self._places()}

    def _places(self) -> dict[str, Any]:
        return {"webhook_secret": self.webhook_secret, "base_url": self.url, "web_url": self.web}

    def effects(self) -> list[str]:
        """What was made through the API."""
        return list(self._made)

    def open_pull(
        self, repository: str, head: str, base: str, *, number: int = 0, author: str = "ada", title: str = "A change"
    ) -> Thread:
        """Somebody opens a pull request on the web."""
        pull = self._thread(repository, author, {"title": title, "body": None}, number)
        pull.head, pull.base = head if ":" in head else f"{repository.partition('/')[0]}:{head}", base
        self.pulls.append(pull)
        return pull

    def remark(self, place: str, body: str, *, author: str = "ada", at: datetime | None = None) -> Remark:
        """Somebody comments on the web, on `owner/repo#7`."""
        repository, _, number = place.partition("#")
        comment = self._remark(repository, int(number), author, body)
        if at is not None:
            comment.created = comment.updated = at
        self.comments.append(comment)
        return comment

    def webhook(self, event: str, payload: Mapping[str, Any] | bytes, **how: Any) -> InboundRequest:
        """A webhook as our gateway hands it on. `how` as for `raw_webhook`."""
        headers, body = self.raw_webhook(event, payload, **how)
        return InboundRequest({name.lower(): value for name, value in headers.items()}, body, time.time())

    def raw_webhook(
        self,
        event: str,
        payload: Mapping[str, Any] | bytes,
        *,
        delivery: str | None = None,
        secret: str | None = None,
        form: bool = False,
    ) -> tuple[dict[str, str], bytes]:
        """Headers and body of a webhook (Webhooks, "Delivery headers" and "Validating webhook deliveries")."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
        if form:
            body = urlencode({"payload": body}).encode()
        headers = {
            "User-Agent": "GitHub-Hookshot/044aadd",
            "Content-Type": "application/x-www-form-urlencoded" if form else "application/json",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
            "X-GitHub-Hook-ID": "292430182",
            "X-GitHub-Hook-Installation-Target-ID": "79929171",
            "X-GitHub-Hook-Installation-Target-Type": "repository",
            "X-Hub-Signature-256": sign_plain(body, SecretStr(secret or self.webhook_secret)),
        }
        return headers, body

    def pull_request_opened(self, number: int = 7) -> dict[str, Any]:
        """The payload of `pull_request` when one is opened (Webhooks, "pull_request")."""
        pull = next(pull for pull in self.pulls if pull.number == number)
        return {
            "action": "opened",
            "number": number,
            "pull_request": self._show_thread(pull),
            "repository": self._show_repository(pull.repository),
            "sender": _user(pull.author),
        }

    def issue_comment_created(self, comment: Remark) -> dict[str, Any]:
        """The payload of `issue_comment` for a new comment (Webhooks, "issue_comment")."""
        thread = self._find_thread(comment.repository, comment.number)
        return {
            "action": "created",
            "issue": self._show_thread(thread),
            "comment": self._show_remark(comment),
            "repository": self._show_repository(comment.repository),
            "sender": _user(comment.author),
        }

    def push(self, repository: str = "acme/api", branch: str = "main") -> dict[str, Any]:
        """The payload of `push` (Webhooks, "push"). It has no action."""
        before, after = secrets.token_hex(20), secrets.token_hex(20)
        page = f"{self.web}/{repository}"
        commit = {"id": after, "message": "Fix the build", "url": f"{page}/commit/{after}"}
        return {
            "ref": f"refs/heads/{branch}",
            "before": before,
            "after": after,
            "compare": f"{page}/compare/{before[:12]}...{after[:12]}",
            "commits": [commit],
            "head_commit": commit,
            "pusher": {"name": "ada", "email": "ada@example.com"},
            "repository": self._show_repository(repository),
            "sender": _user("ada"),
        }

    def ping(self, repository: str = "acme/api") -> dict[str, Any]:
        """The payload of `ping`, sent when a webhook is made (Webhooks, "ping")."""
        return {
            "zen": "Keep it logically awesome.",
            "hook_id": 292430182,
            "hook": {"type": "Repository", "id": 292430182, "active": True, "events": ["*"]},
            "repository": self._show_repository(repository),
            "sender": _user("ada"),
        }

    # -- the API ---------------------------------------------------------------------------------------------------

    def routes(self) -> Sequence[BaseRoute]:
        """The API at the root, and as on Enterprise Server under /api/v3."""
        issue = "/repos/{owner}/{repo}/issues/{number:int}"
        comment = "/repos/{owner}/{repo}/issues/comments/{id:int}"
        pull = "/repos/{owner}/{repo}/pulls/{number:int}"
        routes = [
            self._route("GET", "/user", self._get_user),
            self._route("GET", "/app", self._get_app),
            self._route("GET", "/app/installations/{id:int}", self._get_installation),
            self._route("POST", "/app/installations/{id:int}/access_tokens", self._create_token),
            self._route("GET", "/app/hook/config", self._get_app_hook),
            self._route("GET", "/installation/repositories", self._list_installed),
            self._route("GET", "/user/repos", self._list_own),
            self._route("GET", "/repos/{owner}/{repo}", self._get_repository),
            self._route("GET", "/repos/{owner}/{repo}/issues", self._list_issues),
            self._route("POST", "/repos/{owner}/{repo}/issues", self._create_issue),
            self._route("GET", issue, self._get_issue),
            self._route("GET", f"{issue}/comments", self._list_comments),
            self._route("POST", f"{issue}/comments", self._create_comment),
            self._route("GET", comment, self._get_comment),
            self._route("PATCH", comment, self._update_comment),
            self._route("DELETE", comment, self._delete_comment),
            self._route("GET", "/repos/{owner}/{repo}/pulls", self._list_pulls),
            self._route("POST", "/repos/{owner}/{repo}/pulls", self._create_pull),
            self._route("GET", pull, self._get_pull),
            self._route("GET", f"{pull}/requested_reviewers", self._list_requested),
            self._route("POST", f"{pull}/requested_reviewers", self._request_review),
            self._route("GET", f"{pull}/reviews", self._list_reviews),
            self._route("POST", "/repos/{owner}/{repo}/statuses/{sha}", self._create_status),
            self._route("GET", "/repos/{owner}/{repo}/commits/{sha}/statuses", self._list_statuses),
            self._route("POST", "/repos/{owner}/{repo}/check-runs", self._create_check),
            self._route("PATCH", "/repos/{owner}/{repo}/check-runs/{id:int}", self._update_check),
            self._route("GET", "/repos/{owner}/{repo}/commits/{sha}/check-runs", self._list_checks),
            *self._hook_routes("/app/hook"),
            *self._hook_routes("/repos/{owner}/{repo}/hooks/{hook:int}"),
            *self._hook_routes("/orgs/{owner}/hooks/{hook:int}"),
        ]
        return [Mount("/api/v3", routes=routes), *routes]

    def _hook_routes(self, hook: str) -> list[Route]:
        again = f"{hook}/deliveries/{{id:int}}/attempts"
        shown = [] if hook == "/app/hook" else [self._route("GET", hook, self._get_hook)]
        return [
            *shown,
            self._route("GET", f"{hook}/deliveries", self._list_deliveries),
            self._route("POST", again, self._redeliver),
        ]

    def _route(self, method: str, path: str, handler: Handler) -> Route:
        async def answer(request: Request) -> Response:
            try:
                as_app = path.startswith("/app")
                request.state.login = self._sign_in(request, as_app=as_app)
                if not as_app:
                    self._spend(request)
                response = await handler(request)
            except _Refused as refused:
                response = refused.response
            response.headers.update(self._rate_headers())
            return response

        return Route(path, answer, methods=[method])

    def _sign_in(self, request: Request, *, as_app: bool) -> str:
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        # REST, "Authenticating": invalid credentials are answered with 401; both words are taken before a token.
        if self.reject_credentials or scheme.lower() not in ("token", "bearer"):
            raise _Refused(401, "Bad credentials")
        if as_app:
            return self._check_jwt(credential)
        if credential == self.token:
            return self.login
        if self.installation_tokens.get(credential, 0) > time.time():
            return f"{self.app_slug}[bot]"
        raise _Refused(401, "Bad credentials")

    def _check_jwt(self, credential: str) -> str:
        # Apps, "Generating a JSON Web Token": RS256; `iss` is the App's id; `exp` no more than 10 minutes ahead.
        try:
            claims = jwt.decode(
                credential, _app_rsa().public_key(), algorithms=["RS256"], options={"require": ["iat", "exp", "iss"]}
            )
        except jwt.PyJWTError as error:
            raise _Refused(401, "A JSON web token could not be decoded") from error
        if claims["exp"] > time.time() + MAX_JWT_SECONDS:
            raise _Refused(401, "'Expiration time' claim ('exp') is too far in the future")
        if claims["iss"] != self.app_id:
            raise _Refused(401, "Integration must generate a public key")
        return f"{self.app_slug}[bot]"

    def _spend(self, request: Request) -> None:
        # REST, "Rate limits": 5,000 an hour; over it 403 or 429, and x-ratelimit-remaining is 0.
        if self.used >= self.limit:
            raise _Refused(403, "API rate limit exceeded for user ID 1.")
        self.used += 1
        if request.method != "POST" or not request.url.path.endswith(("/comments", "/issues", "/pulls")):
            return
        # REST, "Rate limits", "About secondary rate limits": no more than 80 content-generating requests a minute and
        # 500 an hour; "if the retry-after response header is present, you should not retry until after that many
        # seconds".
        now = time.monotonic()
        self._writes = [at for at in self._writes if at > now - 3600]
        for most, seconds in ((self.secondary_limit, 60), (self.hourly_limit, 3600)):
            within = [at for at in self._writes if at > now - seconds]
            if most is not None and len(within) >= most:
                wait = str(int(seconds + 1 - (now - within[0])))
                message = (
                    "You have exceeded a secondary rate limit and have been temporarily blocked from content creation."
                )
                raise _Refused(403, message, headers={"Retry-After": wait})
        self._writes.append(now)

    def _rate_headers(self) -> dict[str, str]:
        # REST, "Rate limits", "Checking the status of your rate limit": on every answer.
        return {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(max(self.limit - self.used, 0)),
            "x-ratelimit-used": str(self.used),
            "x-ratelimit-reset": str(int(time.time()) + 1800),
            "x-ratelimit-resource": "core",
        }

    async def _get_user(self, request: Request) -> Response:
        if request.state.login != self.login:
            # REST, "Users": the endpoint does not work with an installation token.
            raise _Refused(403, "Resource not accessible by integration")
        # Apps, "Scopes for OAuth apps": "X-OAuth-Scopes lists the scopes your token has authorized"; changelog,
        # 2021-07-26: a token that ends says when in `GitHub-Authentication-Token-Expiration`.
        headers = {} if self.classic_scopes is None else {"X-OAuth-Scopes": self.classic_scopes}
        if self.token_ends is not None:
            headers["GitHub-Authentication-Token-Expiration"] = f"{self.token_ends:%Y-%m-%d %H:%M:%S} UTC"
        return JSONResponse({**_user(self.login), "url": f"{self.url}/user"}, headers=headers)

    async def _get_app(self, request: Request) -> Response:
        return JSONResponse({"id": int(self.app_id), "slug": self.app_slug, "name": "Acme deployer"})

    async def _get_installation(self, request: Request) -> Response:
        # REST, "Get an installation for the authenticated app": `permissions`, and when it was suspended.
        if request.path_params["id"] != self.installation_id:
            raise _Refused(404, "Not Found")
        suspended = _stamp(datetime.now(UTC)) if self.suspended else None
        shown = {"id": self.installation_id, "app_slug": self.app_slug, "suspended_at": suspended}
        return JSONResponse({**shown, "permissions": self.permissions})

    async def _list_installed(self, request: Request) -> Response:
        # REST, "List repositories accessible to the app installation": for installation tokens only.
        if request.state.login == self.login:
            raise _Refused(403, "You must authenticate with an installation access token.")
        return self._page(request, [self._show_repository(name) for name in self.repositories], within="repositories")

    async def _list_own(self, request: Request) -> Response:
        # REST, "List repositories for the authenticated user": "explicit permission (:read, :write, or :admin)".
        return self._page(request, [self._show_repository(name) for name in self.repositories])

    async def _get_hook(self, request: Request) -> Response:
        path = self._requested_hook(request)
        shown = {"id": request.path_params["hook"], "active": self.hooks[path].active, "events": ["*"]}
        return JSONResponse({**shown, "config": _show_config(self.hooks[path])})

    async def _get_app_hook(self, request: Request) -> Response:
        # REST, "Get a webhook configuration for an app": the configuration alone.
        return JSONResponse(_show_config(self.hooks["/app/hook"]))

    async def _create_token(self, request: Request) -> Response:
        if request.path_params["id"] != self.installation_id:
            raise _Refused(404, "Not Found")
        # Apps, "Generating an installation access token": it expires after one hour; its length is not fixed.
        token = f"ghs_{secrets.token_hex(40)}"
        ends = time.time() + self.installation_token_seconds
        self.installation_tokens[token] = ends
        grant = {"token": token, "expires_at": _stamp(datetime.fromtimestamp(ends, UTC))}
        return JSONResponse({**grant, "permissions": {"pull_requests": "write"}}, 201)

    async def _get_repository(self, request: Request) -> Response:
        return JSONResponse(self._show_repository(self._repository(request)))

    async def _list_issues(self, request: Request) -> Response:
        # REST, "Issues": "every pull request is an issue"; by default open ones, newest first.
        query = request.query_params
        found = self._in(self._repository(request), [*self.issues, *self.pulls], query.get("state", "open"))
        found = [thread for thread in found if query.get("creator", thread.author).lower() == thread.author.lower()]
        return self._page(request, [self._show_thread(thread) for thread in _changed_since(found, request)])

    async def _create_issue(self, request: Request) -> Response:
        repository = self._writable(request)
        given = await _object(request)
        _require(given, "Issue", "title")
        _check_texts(given, "Issue")
        issue = self._thread(repository, request.state.login, given)
        issue.labels, issue.assignees = list(given.get("labels") or []), list(given.get("assignees") or [])
        self.issues.append(issue)
        self._note("issue", f"{repository}#{issue.number}", issue.author, issue.title)
        return JSONResponse(self._show_thread(issue), 201)

    async def _get_issue(self, request: Request) -> Response:
        return JSONResponse(self._show_thread(self._requested(request)))

    async def _list_comments(self, request: Request) -> Response:
        # REST, "Issue comments": ordered by ascending id; `since` is about the last change.
        thread = self._requested(request)
        found = [one for one in self.comments if (one.repository, one.number) == (thread.repository, thread.number)]
        return self._page(request, [self._show_remark(one) for one in _changed_since(found, request)])

    async def _create_comment(self, request: Request) -> Response:
        self._writable(request)
        thread = self._requested(request)
        self._check_open(f"{thread.repository}#{thread.number}")
        given = await _object(request)
        _check_texts(given, "IssueComment")
        if not str(given.get("body") or "").strip():
            raise _Refused(422, "Validation Failed", errors=[_fault("IssueComment", "body", "missing_field")])
        comment = self._remark(thread.repository, thread.number, request.state.login, given["body"])
        self.comments.append(comment)
        self._note("comment", f"{thread.repository}#{thread.number}", comment.author, comment.body)
        return JSONResponse(self._show_remark(comment), 201)

    async def _get_comment(self, request: Request) -> Response:
        return JSONResponse(self._show_remark(self._requested_remark(request)))

    async def _update_comment(self, request: Request) -> Response:
        self._writable(request)
        comment = self._requested_remark(request)
        given = await _object(request)
        _check_texts(given, "IssueComment")
        self._note("change", f"{comment.repository}#{comment.number}", request.state.login, given["body"])
        comment.body, comment.updated = given["body"], datetime.now(UTC)
        return JSONResponse(self._show_remark(comment))

    async def _delete_comment(self, request: Request) -> Response:
        self.comments.remove(self._requested_remark(request))
        return Response(status_code=204)

    async def _list_pulls(self, request: Request) -> Response:
        # REST, "Pulls": `head` is user:branch, `base` a branch; anything else in `head` does not filter.
        query = request.query_params
        found = self._in(self._repository(request), self.pulls, query.get("state", "open"))
        if ":" in query.get("head", ""):
            found = [pull for pull in found if pull.head == query["head"]]
        found = [pull for pull in found if query.get("base", pull.base) == pull.base]
        return self._page(request, [self._show_thread(pull) for pull in found])

    async def _create_pull(self, request: Request) -> Response:
        repository = self._writable(request)
        given = await _object(request)
        # REST, "Create a pull request": head and base are required, and title unless an issue is given.
        _require(given, "PullRequest", "head", "base", "title")
        _check_texts(given, "PullRequest")
        head = given["head"] if ":" in given["head"] else f"{request.path_params['owner']}:{given['head']}"
        for pull in self._in(repository, self.pulls, "open"):
            if (pull.head, pull.base) == (head, given["base"]):
                fault = {"resource": "PullRequest", "code": "custom"}
                message = f"A pull request already exists for {head}."
                raise _Refused(422, "Validation Failed", errors=[{**fault, "message": message}])
        pull = self._thread(repository, request.state.login, given)
        pull.head, pull.base, pull.draft = head, given["base"], bool(given.get("draft"))
        self.pulls.append(pull)
        self._note("pull request", f"{repository}#{pull.number}", pull.author, pull.title)
        return JSONResponse(self._show_thread(pull), 201)

    async def _list_requested(self, request: Request) -> Response:
        # REST, "Review requests": those who have reviewed since are no longer on the list.
        pull = self._requested(request)
        asked = self.requested.get(f"{pull.repository}#{pull.number}", set())
        users = [_user(name) for name in sorted(asked) if not name.startswith("@")]
        teams = [{"slug": name[1:], "name": name[1:]} for name in sorted(asked) if name.startswith("@")]
        return JSONResponse({"users": users, "teams": teams})

    async def _request_review(self, request: Request) -> Response:
        self._writable(request)
        pull = self._requested(request)
        given = await _object(request)
        people, teams = given.get("reviewers") or [], given.get("team_reviewers") or []
        # REST, "Request reviewers": 422 "if user is not a collaborator"; nor may the author review.
        if not set(people) <= self.collaborators or not set(teams) <= self.teams:
            raise _Refused(422, "Reviews may only be requested from collaborators. One or more was not a collaborator.")
        if pull.author in people:
            raise _Refused(422, "Review cannot be requested from pull request author.")
        asked = self.requested.setdefault(f"{pull.repository}#{pull.number}", set())
        asked |= {*people, *(f"@{team}" for team in teams)}
        names = ", ".join([*people, *teams])
        self._note("review request", f"{pull.repository}#{pull.number}", request.state.login, names)
        return JSONResponse(self._show_thread(pull), 201)

    async def _list_reviews(self, request: Request) -> Response:
        pull = self._requested(request)
        names = self.reviews.get(f"{pull.repository}#{pull.number}", [])
        return self._page(request, [{"id": n, "user": _user(name)} for n, name in enumerate(names, 1)])

    async def _create_status(self, request: Request) -> Response:
        # REST, "Commit statuses": "a limit of 1000 statuses per sha and context"; an unknown commit is 422.
        repository, sha = self._writable(request), request.path_params["sha"]
        given = await _object(request)
        _require(given, "Status", "state")
        if self.commits.get(sha) != repository:
            raise _Refused(422, f"No commit found for SHA: {sha}")
        if len(given.get("description") or "") > MAX_STATUS:
            message = f"description is too long (maximum is {MAX_STATUS} characters)"
            fault = {**_fault("Status", "description", "custom"), "message": message}
            raise _Refused(422, "Validation Failed", errors=[fault])
        names = ("state", "context", "description", "target_url")
        status: dict[str, Any] = {"context": "default", **{name: given.get(name) for name in names if name in given}}
        status |= {"id": self._new_id(), "sha": sha, "creator": _user(request.state.login)}
        self.statuses.append(status)
        self._note("status", f"{repository}@{sha[:7]}", request.state.login, f"{status['context']} {status['state']}")
        return JSONResponse(status, 201)

    async def _list_statuses(self, request: Request) -> Response:
        # REST, "List commit statuses for a reference": newest first.
        self._repository(request)
        found = [status for status in self.statuses if status["sha"] == request.path_params["sha"]]
        return self._page(request, found[::-1])

    async def _create_check(self, request: Request) -> Response:
        repository = self._writable(request)
        self._check_app(request)
        given = await _object(request)
        _require(given, "CheckRun", "name", "head_sha")
        if self.commits.get(given["head_sha"]) != repository:
            raise _Refused(422, f"No commit found for SHA: {given['head_sha']}")
        check = {"id": self._new_id(), "repository": repository, "head_sha": given["head_sha"]}
        self._set_check(check, given)
        self.checks.append(check)
        self._note("check", f"{repository}@{given['head_sha'][:7]}", request.state.login, _check_line(check))
        return JSONResponse(self._show_check(check), 201)

    async def _update_check(self, request: Request) -> Response:
        repository = self._writable(request)
        self._check_app(request)
        found = [one for one in self.checks if one["id"] == request.path_params["id"]]
        if not found or found[0]["repository"] != repository:
            raise _Refused(404, "Not Found")
        self._set_check(found[0], await _object(request))
        self._note("change", f"{repository}@{found[0]['head_sha'][:7]}", request.state.login, _check_line(found[0]))
        return JSONResponse(self._show_check(found[0]))

    async def _list_checks(self, request: Request) -> Response:
        # REST, "List check runs for a Git reference": the newest of each name, unless `filter` is all.
        repository, sha = self._repository(request), request.path_params["sha"]
        name = request.query_params.get("check_name")
        found = [one for one in self.checks if (one["repository"], one["head_sha"]) == (repository, sha)]
        found = [self._show_check(one) for one in found if name in (None, one["name"])][::-1]
        if request.query_params.get("filter", "latest") == "latest":
            found = list({one["name"]: one for one in found[::-1]}.values())
        return self._page(request, found, within="check_runs")

    def _check_app(self, request: Request) -> None:
        # REST, "Check runs": "to create a check run, you must use a GitHub App".
        if request.state.login == self.login:
            raise _Refused(403, "You must authenticate via a GitHub App.")

    def _set_check(self, check: dict[str, Any], given: Mapping[str, Any]) -> None:
        # REST, "Create a check run": a report needs title and summary, of at most 65,535 characters.
        report = given.get("output")
        if report is not None:
            _require(report, "CheckRun", "title", "summary")
            if len(report["summary"]) > MAX_SUMMARY:
                raise _Refused(422, "Invalid request. Only 65535 characters are allowed for summary.")
        if given.get("status") == "completed" and not given.get("conclusion"):
            raise _Refused(422, 'Invalid request. "conclusion" is required when status is completed.')
        check |= {name: value for name, value in given.items() if name != "head_sha"}

    def _show_check(self, check: Mapping[str, Any]) -> dict[str, Any]:
        page = f"{self.web}/{check['repository']}/runs/{check['id']}"
        return {**check, "html_url": page, "app": {"id": int(self.app_id), "slug": self.app_slug}}

    async def _list_deliveries(self, request: Request) -> Response:
        # REST, "List deliveries for a webhook": newest first, by a cursor; kept for 3 days (Webhooks, "Redelivering").
        hook = self._requested_hook(request)
        oldest = datetime.now(UTC) - timedelta(days=3)
        found = [one for one in self.sent if one.hook == hook and one.at > oldest]
        found.sort(key=lambda one: (one.at, one.id), reverse=True)
        return self._page(request, [_show_sent(one) for one in found], cursor="cursor")

    async def _redeliver(self, request: Request) -> Response:
        hook, wanted = self._requested_hook(request), request.path_params["id"]
        if self.redelivery_limit is not None and len(self.redelivered) >= self.redelivery_limit:
            raise _Refused(403, "You have exceeded a secondary rate limit.", headers={"Retry-After": "60"})
        for one in self.sent:
            if (one.hook, one.id) == (hook, wanted):
                self.redelivered.append(one.guid)
                if self.hook_url:
                    await self._send_again(one)
                return JSONResponse({}, 202)
        raise _Refused(404, "Not Found")

    async def _send_again(self, one: Sent) -> None:
        # Webhooks, "Redelivering webhooks": the same X-GitHub-Delivery as the original; a record of its own.
        headers, body = self.raw_webhook(one.event, one.payload, delivery=one.guid)
        status = (await self._http.request("POST", self.hook_url, headers=headers, content=body)).status
        again = replace(one, id=self._new_id(), status=status, at=datetime.now(UTC), redelivery=True)
        self.sent.append(again)

    @functools.cached_property
    def _http(self) -> Http:
        return Http()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "_http" in vars(self):
            await self._http.close()
        await super().__aexit__(kind, error, trace)

    def _requested_hook(self, request: Request) -> str:
        path = request.url.path.partition("/deliveries")[0].removeprefix("/api/v3")
        if path not in self.hooks:
            raise _Refused(404, "Not Found")
        return path

    def record_delivery(
        self,
        guid: str,
        status: int,
        *,
        hook: str = "/app/hook",
        event: str = "push",
        at: datetime | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> Sent:
        """GitHub sends a webhook and keeps what came of it; 0 where nobody answered."""
        again = any(one.guid == guid for one in self.sent)
        at = at or datetime.now(UTC) - timedelta(minutes=10)
        self.sent.append(Sent(self._new_id(), hook, guid, event, status, at, again, payload or {}))
        return self.sent[-1]

    def _check_open(self, place: str) -> None:
        # GitHub's own words: 403 "Unable to create comment because issue is locked." and "Repository was archived so
        # is read-only."
        said = self.read_only.get(place) or self.read_only.get(place.partition("#")[0])
        if said:
            raise _Refused(403, said)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    async def _get_pull(self, request: Request) -> Response:
        thread = self._requested(request)
        if not thread.is_pull:
            raise _Refused(404, "Not Found")
        return JSONResponse(self._show_thread(thread))

    # -- what is kept and shown ------------------------------------------------------------------------------------

    def _repository(self, request: Request) -> str:
        name = f"{request.path_params['owner']}/{request.path_params['repo']}"
        if name in self.moved and request.method == "POST":
            # REST, "Best practices", "Follow redirects": 307 repeats the verb elsewhere.
            target = f"{self.url}/repositories/1"
            raise _Refused(307, "Moved Permanently", headers={"Location": target}, url=target)
        # REST, "Troubleshooting": 404 rather than 403, not to confirm that a private repository exists.
        if name not in self.repositories:
            raise _Refused(404, "Not Found", documentation_url="https://docs.github.com/rest")
        return name

    def _writable(self, request: Request) -> str:
        name = self._repository(request)
        if name in self.forbidden:
            raise _Refused(403, "Resource not accessible by personal access token")
        return name

    def _in(self, repository: str, threads: Iterable[Thread], state: str) -> list[Thread]:
        found = [thread for thread in threads if thread.repository == repository and state in (thread.state, "all")]
        return sorted(found, key=lambda thread: thread.number, reverse=True)

    def _requested(self, request: Request) -> Thread:
        return self._find_thread(self._repository(request), request.path_params["number"])

    def _find_thread(self, repository: str, number: int) -> Thread:
        for thread in (*self.pulls, *self.issues):
            if (thread.repository, thread.number) == (repository, number):
                return thread
        raise _Refused(404, "Not Found")

    def _requested_remark(self, request: Request) -> Remark:
        repository = self._repository(request)
        for comment in self.comments:
            if (comment.repository, comment.id) == (repository, request.path_params["id"]):
                return comment
        raise _Refused(404, "Not Found")

    def _thread(self, repository: str, author: str, given: Mapping[str, Any], number: int = 0) -> Thread:
        taken = [thread.number for thread in (*self.pulls, *self.issues) if thread.repository == repository]
        now = datetime.now(UTC)
        title, body = given["title"], given.get("body")
        return Thread(repository, number or max(taken, default=0) + 1, author, title, body, now, now)

    def _remark(self, repository: str, number: int, author: str, body: str) -> Remark:
        now = datetime.now(UTC)
        return Remark(self._new_id(), repository, number, author, body, now, now)

    def _note(self, kind: str, place: str, author: str, text: str) -> None:
        self._made.append(f"{kind} {place} by {author}: {text.splitlines()[0][:80]}")

    def _show_repository(self, name: str) -> dict[str, Any]:
        page = f"{self.web}/{name}"
        owner, _, repo = name.partition("/")
        return {"id": 1, "name": repo, "full_name": name, "private": True, "owner": _user(owner), "html_url": page}

    def _show_thread(self, thread: Thread) -> dict[str, Any]:
        kind = "pull" if thread.is_pull else "issues"
        page = f"{self.web}/{thread.repository}/{kind}/{thread.number}"
        api = f"{self.url}/repos/{thread.repository}"
        shown = {
            "id": 3_000_000_000 + thread.number,
            "number": thread.number,
            "url": f"{api}/{'pulls' if thread.is_pull else 'issues'}/{thread.number}",
            "html_url": page,
            "state": thread.state,
            "title": thread.title,
            "body": thread.body,
            "user": _user(thread.author),
            "labels": [{"name": label} for label in thread.labels],
            "assignees": [_user(login) for login in thread.assignees],
            "draft": thread.draft,
            "created_at": _stamp(thread.created),
            "updated_at": _stamp(thread.updated),
        }
        if thread.is_pull:
            owner, _, branch = thread.head.partition(":")
            shown["head"] = {"label": thread.head, "ref": branch, "user": _user(owner)}
            shown["base"] = {"label": thread.base, "ref": thread.base}
            shown["pull_request"] = {"html_url": page}
        return shown

    def _show_remark(self, comment: Remark) -> dict[str, Any]:
        api = f"{self.url}/repos/{comment.repository}/issues"
        thread = self._find_thread(comment.repository, comment.number)
        page = self._show_thread(thread)["html_url"]
        return {
            "id": comment.id,
            "url": f"{api}/comments/{comment.id}",
            "html_url": f"{page}#issuecomment-{comment.id}",
            "issue_url": f"{api}/{comment.number}",
            "user": _user(comment.author),
            "body": comment.body,
            "created_at": _stamp(comment.created),
            "updated_at": _stamp(comment.updated),
        }

    def _page(
        self, request: Request, items: list[dict[str, Any]], *, within: str = "", cursor: str = "page"
    ) -> Response:
        # REST, "Using pagination": per_page 30 unless asked, 100 at most; the Link header names the next page.
        size = min(int(request.query_params.get("per_page", 30)), 100)
        page = int(request.query_params.get(cursor, 1))
        if page == self.broken_page:
            raise _Refused(502, "Server Error")
        headers = {}
        if len(items) > page * size:
            query = urlencode({**request.query_params, cursor: page + 1})
            headers["Link"] = f'<{self.url}{request.url.path}?{query}>; rel="next"'
        shown = items[(page - 1) * size : page * size]
        return JSONResponse({"total_count": len(items), within: shown} if within else shown, headers=headers)


def app_key() -> str:
    """The private key of the App, as PEM."""
    return _app_rsa().private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


@functools.cache
def _app_rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _user(login: str) -> dict[str, Any]:
    kind = "Bot" if login.endswith("[bot]") else "User"
    return {"login": login, "id": sum(login.encode()), "type": kind}


def _check_line(check: Mapping[str, Any]) -> str:
    return f"{check['name']} {check.get('conclusion') or check.get('status')}"


def _show_config(hook: Hook) -> dict[str, Any]:
    shown = {"content_type": "json", "insecure_ssl": str(int(hook.insecure_ssl)), "url": "https://bus.example.com/hook"}
    return shown | ({"secret": "********"} if hook.has_secret else {})


def _show_sent(one: Sent) -> dict[str, Any]:
    status = "OK" if 200 <= one.status < 300 else f"Invalid HTTP Response: {one.status}"
    shown = {"id": one.id, "guid": one.guid, "delivered_at": _stamp(one.at), "redelivery": one.redelivery}
    return {**shown, "status": status, "status_code": one.status, "event": one.event, "action": None}


def _stamp(at: datetime) -> str:
    # REST, "Timezones": ISO 8601 in UTC, to the second.
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _changed_since(found: list[Changed], request: Request) -> list[Changed]:
    since = request.query_params.get("since")
    if since is None:
        return found
    at = datetime.strptime(since, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return [one for one in found if one.updated >= at]


async def _object(request: Request) -> dict[str, Any]:
    # REST, "Troubleshooting", "Invalid requests": 400 for what is not JSON or not an object.
    try:
        given = json.loads(await request.body())
    except ValueError:
        raise _Refused(400, "Problems parsing JSON") from None
    if not isinstance(given, dict):
        raise _Refused(400, "Body should be a JSON object")
    return given


def _require(given: Mapping[str, Any], resource: str, *names: str) -> None:
    # REST, "Troubleshooting", "Validation failed": 422, with each field and a code.
    faults = [_fault(resource, name, "missing_field") for name in names if not given.get(name)]
    if faults:
        raise _Refused(422, "Validation Failed", errors=faults)


def _check_texts(given: Mapping[str, Any], resource: str) -> None:
    # GitHub's own words for both; the numbers are not in its documentation.
    for name, most in (("title", MAX_TITLE), ("body", MAX_BODY)):
        if len(given.get(name) or "") > most:
            message = f"{name} is too long (maximum is {most} characters)"
            raise _Refused(422, "Validation Failed", errors=[{**_fault(resource, name, "custom"), "message": message}])


def _fault(resource: str, name: str, code: str) -> dict[str, str]:
    return {"resource": resource, "field": name, "code": code}
