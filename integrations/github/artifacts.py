"""What `create_artifact` takes: the content of each type of artifact."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from integrations.github.place import OWNER, Place
from integrations.github.render import MAX_TITLE

Text = Annotated[str, Field(min_length=1, max_length=255)]
Login = Annotated[str, Field(pattern=rf"^{OWNER}(?:\[bot\])?$")]
Sha = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{40}(?:[0-9a-fA-F]{24})?$", description="The commit, in full")]
Address = Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=1000)]


def _example(**content: JsonValue) -> ConfigDict:
    """For people who read the schema."""
    return ConfigDict(json_schema_extra={"examples": [{"owner": "acme", "repo": "api", **content}]})


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    owner: str = Field(pattern=rf"^{OWNER}$", description="User or organisation")
    # pydantic's regular expressions have no look-ahead: the two names that are paths are refused one by one
    repo: str = Field(
        pattern=r"^(?:[A-Za-z0-9_-]|\.[A-Za-z0-9_-]|\.\.[A-Za-z0-9._-])[A-Za-z0-9._-]{0,99}$",
        description="Repository, without its owner",
    )

    @property
    def repository(self) -> str:
        """owner/name, as the API writes it."""
        return f"{self.owner}/{self.repo}"


class _Titled(_Content):
    title: str = Field(min_length=1, max_length=MAX_TITLE, description="One line")
    body: str = Field(default="", description="Markdown; cut at GitHub's limit")


class PullRequest(_Titled):
    """A new pull request (docs.github.com/rest/pulls/pulls, "Create a pull request")."""

    model_config = _example(title="Move to v2", head="move", base="main")

    head: Text = Field(description="Branch with the changes; user:branch where it is in a fork")
    base: Text = Field(description="Branch to merge into")
    draft: bool = Field(default=False, description="Not ready for review yet")

    @property
    def qualified_head(self) -> str:
        """`user:branch`, the form that listing pull requests filters by."""
        return self.head if ":" in self.head else f"{self.owner}:{self.head}"


class Issue(_Titled):
    """A new issue (docs.github.com/rest/issues/issues, "Create an issue")."""

    model_config = _example(title="Migration 0042 failed", body="See the log.", labels=["bug"])

    labels: tuple[Text, ...] = Field(default=(), max_length=100, description="Names of labels")
    # "Adds up to 10 assignees to an issue" (docs.github.com/rest/issues/assignees)
    assignees: tuple[Text, ...] = Field(default=(), max_length=10, description="Logins")


class Comment(_Content):
    """A new comment on an issue or a pull request."""

    model_config = _example(number=7, body="Benchmarks are attached.")

    number: int = Field(ge=1, description="Of the issue or pull request")
    body: str = Field(min_length=1, description="Markdown; cut at GitHub's limit")

    @property
    def place(self) -> Place:
        """What it is put under."""
        return Place(self.repository, self.number)


class ReviewRequest(_Content):
    """People and teams asked to review (docs.github.com/rest/pulls/review-requests)."""

    model_config = _example(number=7, reviewers=["grace"])

    number: int = Field(ge=1, description="Of the pull request")
    reviewers: tuple[Login, ...] = Field(default=(), max_length=15, description="Logins")
    team_reviewers: tuple[Text, ...] = Field(default=(), max_length=15, description="Teams, without the organisation")

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.reviewers and not self.team_reviewers:
            raise ValueError("asks nobody: set reviewers or team_reviewers")
        return self


class CommitStatus(_Content):
    """A status of a commit; the newest of each context counts (docs.github.com/rest/commits/statuses)."""

    model_config = _example(sha="6dcb09b5b57875f334f61aebed695e2e4193db5e", state="success", context="ci/migrations")

    sha: Sha
    state: Literal["error", "failure", "pending", "success"] = Field(description="How it is")
    context: Text = Field(default="eventbus", description="Tells it from other statuses, such as ci/migrations")
    description: str | None = Field(default=None, description="One line; cut at 140 characters")
    target_url: Address | None = Field(default=None, description="Where to read more")


class CheckRun(_Content):
    """A check of a commit, with a report. Only a GitHub App can make one (docs.github.com/rest/checks/runs)."""

    model_config = _example(
        head_sha="6dcb09b5b57875f334f61aebed695e2e4193db5e", name="migrations", conclusion="success"
    )

    head_sha: Sha
    name: Text = Field(description="Of the check, such as migrations")
    status: Literal["queued", "in_progress", "completed"] = Field(default="completed", description="How far it is")
    conclusion: (
        Literal["action_required", "cancelled", "failure", "neutral", "skipped", "success", "timed_out"] | None
    ) = Field(default=None, description="What it came to, once completed")
    title: Text | None = Field(default=None, description="Heading of its report")
    summary: str = Field(default="", description="The report, Markdown; cut at 65,535 characters")
    details_url: Address | None = Field(default=None, description="Where to read more")

    @model_validator(mode="after")
    def _ended(self) -> Self:
        if (self.status == "completed") != (self.conclusion is not None):
            raise ValueError("has a conclusion exactly when its status is completed")
        return self


Content = PullRequest | Issue | Comment | ReviewRequest | CommitStatus | CheckRun

ARTIFACTS: dict[str, type[Content]] = {
    "pull_request": PullRequest,
    "issue": Issue,
    "comment": Comment,
    "review_request": ReviewRequest,
    "commit_status": CommitStatus,
    "check_run": CheckRun,
}
