"""Where a comment goes: one issue or pull request, read from its address or from `owner/repo#123`.

Names are checked here because they become part of a path of the API.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from integrations.errors import Rejected

OWNER = r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}"
REPO = r"(?!\.{1,2}(?:[#/]|$))[A-Za-z0-9._-]{1,100}"
"""GitHub's own form for names: letters, digits and hyphens (`_` in those of managed users); a repository's also `.`"""

_TARGET = re.compile(rf"({OWNER})/({REPO})#(\d{{1,10}})")
_PATH = re.compile(rf"/({OWNER})/({REPO})/pull/(\d{{1,10}})(?:/.*)?")


@dataclass(frozen=True, slots=True)
class Place:
    """An issue or a pull request; GitHub counts both with one sequence of numbers."""

    repository: str
    number: int

    def __str__(self) -> str:
        return f"{self.repository}#{self.number}"


def parse_target(target: str) -> Place:
    """Read `owner/repo#123`. Raises Rejected."""
    found = _TARGET.fullmatch(target)
    if found is None:
        raise Rejected(f"{target[:200]!r} names no issue or pull request: write owner/repo#123")
    return Place(f"{found[1]}/{found[2]}", int(found[3]))


def parse_pull_request(url: str, web: str) -> Place:
    """Read the address of a pull request of the GitHub at `web`. Raises Rejected for any other address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise Rejected(f"pull_request {url[:200]!r} is not an address") from None
    home = urlsplit(web)
    if parts.scheme not in ("http", "https") or parts.netloc.lower() != home.netloc.lower():
        raise Rejected(f"pull_request {url[:200]!r} is not on {web}, the only GitHub this account may write to")
    found = _PATH.fullmatch(parts.path.removeprefix(home.path))
    if found is None:
        raise Rejected(f"pull_request {url[:200]!r} is not the address of one: expected {web}/OWNER/REPO/pull/NUMBER")
    return Place(f"{found[1]}/{found[2]}", int(found[3]))
