"""The documents agree with the code: every link leads somewhere, every page, command and folder is listed."""

import re
from pathlib import Path

import pytest

from qwenctl.cli.commands import COMMANDS
from tests.test_architecture import FLOW

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md"))
    if path.name != "CHANGELOG.md"
) + sorted(ROOT.glob("qwenctl/*/README.md"))


def links(page: Path) -> set[Path]:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    return {(page.parent / target).resolve() for target in targets if "://" not in target}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    assert [target for target in links(page) if not target.exists()] == []


@pytest.mark.parametrize("index", ["README.md", "docs/index.md"])
def test_every_page_of_the_documentation_is_listed(index: str) -> None:
    pages = {*ROOT.glob("docs/*.md"), ROOT / "docs/config.toml", ROOT / "docs/examples"}
    assert pages - links(ROOT / index) - {ROOT / "docs/index.md"} == set()


def test_the_readme_has_a_row_for_every_command_with_the_text_of_its_help() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:\[)?`([a-z-]+)`(?:\]\([^)]*\))? \| (.*) \|$", text, re.MULTILINE)
    assert [row for row in rows if row[0] in COMMANDS] == list(COMMANDS.items())


def test_the_architecture_lists_the_folders_in_the_order_of_their_imports() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.split("## The folders")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert re.findall(r"`([a-z]+)(?:/|\.py)`", " ".join(cells)) == list(FLOW)
