"""What is made from the manifests and settings is as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service import generate

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/configuration.md", "docs/http.md"]


@pytest.fixture(scope="module")
def adapters() -> generate.Adapters:
    return generate.our_adapters(ROOT)


def test_what_is_generated_is_up_to_date() -> None:
    assert list(generate.differing(ROOT)) == [], generate.REPAIR


@pytest.mark.parametrize("page", PAGES)
def test_a_table_that_is_changed_by_hand_is_put_right(page: str, adapters: generate.Adapters, tmp_path: Path) -> None:
    for name in [*PAGES, "pyproject.toml", "config/example.yaml", "config/production.yaml"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    text = (ROOT / page).read_text()
    first = re.search(r"<!-- generated: .* -->\n\n.*\n.*\n(\|.*\n)", text)
    assert first is not None
    (tmp_path / page).write_text(text.replace(first[1], "", 1))

    assert page in generate.differing(tmp_path)
    assert generate.generated(tmp_path, adapters)[page] == text


def test_every_mark_of_a_page_is_one_that_is_filled(adapters: generate.Adapters) -> None:
    """A mark that is misspelt would keep its table for ever."""
    for page in PAGES:
        text = (ROOT / page).read_text()
        assert text.count("<!-- generated: ") == len(generate.MARKED.findall(text)) == text.count("<!-- end -->")
    assert set(re.findall(r"generated: settings of (.+?) -->", (ROOT / PAGES[1]).read_text())) == set(generate.SECTIONS)


def test_the_check_ends_with_1_and_says_how_to_repair(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in [*PAGES, "pyproject.toml", "config/example.yaml", "config/production.yaml", "config/schema.json"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.setattr(generate, "ROOT", tmp_path)

    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == generate.REPAIR
    assert generate.main([]) == 0
    assert "docs/integrations.md: written" in capsys.readouterr().out
    assert generate.main(["--check"]) == 0


def test_every_secret_of_an_adapter_has_a_variable_and_none_has_a_value(adapters: generate.Adapters) -> None:
    text = (ROOT / "config/.env.example").read_text()

    assert "\nGITHUB_TOKEN=\n" in text
    assert "\n#SLACK_APP_TOKEN=\n" in text
    assert "\n#REDIS_ADDR=localhost:6379\n" in text
    assert not re.search(r"^#?\w*(TOKEN|SECRET|PASSWORD|KEY)=.+$", text, re.MULTILINE)
