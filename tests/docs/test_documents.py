"""The documents say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("integrations/*/README.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_is_broken(document: Path) -> None:
    """Links to files of the repository lead somewhere."""
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", document.read_text())

    missing = [target for target in targets if not (document.parent / target).exists()]

    assert not missing, f"broken links: {missing}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_leads_to_a_heading_that_is_not_there(document: Path) -> None:
    """`#some-heading`, of this page or of another."""
    links = re.findall(r"\]\(((?!https?:)[^)#]*\.md)?#([^)]+)\)", document.read_text())

    missing = [f"{file}#{place}" for file, place in links if place not in _headings(document, file)]

    assert not missing, f"no such heading: {missing}"


@pytest.mark.parametrize("page", ["guarantees", "capabilities"])
def test_every_promise_names_a_test_that_exists(page: str) -> None:
    """A promise that no test proves is not to be made."""
    text = (ROOT / f"docs/{page}.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and re.search(r"`\w+/[\w/]+\.py", line)]

    named = re.findall(r"`((?:tests|integrations)/[\w/]+\.py)(?:::(\w+))?`", text)
    missing = [f"{file}::{test}" for file, test in named if not _defines(ROOT / file, test)]

    assert len(rows) >= 20
    assert not missing, f"no such test: {missing}"


def _headings(document: Path, file: str) -> set[str]:
    """The names GitHub gives them: lower case, blanks as hyphens, no other sign."""
    text = ((document.parent / file) if file else document).read_text()
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def _defines(file: Path, test: str) -> bool:
    return file.exists() and (not test or re.search(rf"def {test}\(", file.read_text()) is not None)
