"""Everything we make at GitHub, each as the one request that makes it. Pure; previews and calls use the same.

Text comes in ready, see `render`; who sends it, and what an answer means, `client` knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from integrations.github.artifacts import CheckRun, CommitStatus, Issue, PullRequest, ReviewRequest
from integrations.github.place import Place


@dataclass(frozen=True, slots=True)
class Write:
    """One request, its path below the API's address.

    doing   in words: `comment on acme/api#7`
    names   the field of the answer that names what was made
    page    its page, where the answer does not say
    slot    what it is for its thread, which has one of each; empty: one more each time
    over    where the one in its slot is changed, with {} for its name
    once    fields that are only for making it
    """

    doing: str
    path: str
    body: Mapping[str, Any]
    method: str = "POST"
    names: str = "id"
    page: str = ""
    slot: str = ""
    over: str = ""
    once: tuple[str, ...] = ()

    def change(self, reference: str) -> Write:
        """The request that makes this of what was made before."""
        body = {name: value for name, value in self.body.items() if name not in self.once}
        return replace(
            self, doing=f"change {reference}: {self.doing}", path=self.over.format(reference), body=body, method="PATCH"
        )


def comment(place: Place, body: str) -> Write:
    """docs.github.com/rest/issues/comments: it is the same for issues and pull requests."""
    home, doing = f"/repos/{place.repository}/issues", f"comment on {place}"
    path, over = f"{home}/{place.number}/comments", f"{home}/comments/{{}}"
    return Write(doing, path, {"body": body}, slot=doing, over=over)


def pull_request(content: PullRequest, title: str, body: str) -> Write:
    """docs.github.com/rest/pulls/pulls, "Create a pull request"."""
    branches = {"head": content.head, "base": content.base, "draft": content.draft}
    doing = f"open a pull request in {content.repository} from {content.head} into {content.base}"
    path = f"/repos/{content.repository}/pulls"
    return Write(doing, path, {"title": title, "body": body, **branches}, names="number")


def issue(content: Issue, title: str, body: str) -> Write:
    """docs.github.com/rest/issues/issues, "Create an issue"."""
    more = {"labels": [*content.labels], "assignees": [*content.assignees]}
    path = f"/repos/{content.repository}/issues"
    return Write(f"open an issue in {content.repository}", path, {"title": title, "body": body, **more}, names="number")


def review_request(content: ReviewRequest) -> Write:
    """docs.github.com/rest/pulls/review-requests. Who is asked already is not asked twice."""
    people = {"reviewers": [*content.reviewers], "team_reviewers": [*content.team_reviewers]}
    doing = f"ask for a review of {content.repository}#{content.number}"
    path = f"/repos/{content.repository}/pulls/{content.number}/requested_reviewers"
    return Write(doing, path, {name: asked for name, asked in people.items() if asked}, names="number")


def commit_status(content: CommitStatus, description: str, web: str) -> Write:
    """docs.github.com/rest/commits/statuses. The newest of a context replaces the one before."""
    body = {"state": content.state, "context": content.context, "description": description}
    if content.target_url is not None:
        body["target_url"] = content.target_url
    doing = f"set {content.context} to {content.state} on {content.repository}@{content.sha[:12]}"
    page = f"{web}/{content.repository}/commit/{content.sha}"
    return Write(doing, f"/repos/{content.repository}/statuses/{content.sha}", body, page=page)


def check_run(content: CheckRun, title: str, summary: str, external_id: str) -> Write:
    """docs.github.com/rest/checks/runs, "Create a check run" and "Update a check run"."""
    body: dict[str, Any] = {"name": content.name, "head_sha": content.head_sha, "external_id": external_id}
    body |= {"status": content.status, "output": {"title": title, "summary": summary}}
    if content.conclusion is not None:
        body["conclusion"] = content.conclusion
    if content.details_url is not None:
        body["details_url"] = content.details_url
    what = f"check {content.name} of {content.repository}@{content.head_sha}"
    path = f"/repos/{content.repository}/check-runs"
    doing = f"{what}: {content.conclusion or content.status}"
    return Write(doing, path, body, slot=what, over=f"{path}/{{}}", once=("head_sha",))
