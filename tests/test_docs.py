"""The pages say what the code does: every option of a recipe with its default, links that lead somewhere, commands that exist."""

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from hilum.cli import app
from hilum.recipe import CacheSpec, PredictSpec, SplitSpec, Stage, TrainSpec

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize(
    ("prefix", "spec"),
    [("cache.", CacheSpec), ("split.", SplitSpec), ("train.", TrainSpec), ("predict.", PredictSpec), ("", Stage)],
)
def test_every_option_stands_on_the_page_with_its_default(prefix, spec):
    rows = {}
    for line in (ROOT / "docs/reference/recipe.md").read_text().splitlines():
        cells = line.split(" | ")
        if len(cells) >= 3 and line.startswith("| `"):
            rows |= dict(zip(re.findall(r"`([^`]+)`", cells[0]), re.findall(r"`([^`]+)`", cells[1])))
    for option in fields(spec):
        name = prefix + option.name
        if name in ("model", "train"):  # their own options stand on the page
            continue
        assert name in rows, name
        if option.default is not MISSING:
            expected = {None: "null"}.get(option.default, str(option.default))
            assert rows[name] == expected, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page):
    verbs = {command.name or command.callback.__name__ for command in app.registered_commands}
    for verb in re.findall(r"^(?:\.venv/bin/)?hilum (\w+)", page.read_text(), re.MULTILINE):
        assert verb in verbs, verb
