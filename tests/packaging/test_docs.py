"""What the pages say is there: links lead somewhere, the study in the README is one, commands exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from sweepd import spec, strict_yaml
from sweepd.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md"), *ROOT.glob("*/README.md")]
)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
COMMAND = re.compile(r"(?:`|\$ |> )sweepd ([a-z]+)")


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_commands_that_a_page_names_exist(page: Path) -> None:
    known = set(typer.main.get_group(app).commands)

    assert set(COMMAND.findall(page.read_text())) - known == set()


def test_the_map_names_files_that_exist() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    [layout] = re.findall(r"```\n(shared/sweepd/\n.*?)```", page, flags=re.DOTALL)
    missing: list[str] = []
    folder = ROOT
    for line in layout.splitlines():
        names = re.split(r"\s{2,}", line.strip())[0].split()
        if line.startswith(" "):
            missing += [name for name in names if not (folder / name).exists()]
        else:
            folder = ROOT / names[0]

    assert missing == []


def test_the_study_in_the_readme_is_one() -> None:
    [text] = re.findall(r"```yaml\n(name: .*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    study = spec.parse(strict_yaml.load(text))

    assert study.name == "digits"
    assert study.budget.trials == 40


def test_the_table_of_words_in_the_readme_is_complete() -> None:
    table = (ROOT / "README.md").read_text().split("| word | says |")[1].split("\n\n")[0]
    told = {
        word
        for row in table.splitlines()
        for word in re.findall(r"`([a-z]+)`", row.split("|")[1:2][0] if "|" in row else "")
    }

    assert told == set(spec.StudySpec.__struct_fields__) - {"name"}


def test_operations_names_every_alert() -> None:
    rules: Any = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    page = (ROOT / "docs/operations.md").read_text()

    assert set(re.findall(r"\| `(Sweepd\w+)` \|", page)) == alerts
