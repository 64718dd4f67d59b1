"""The page on sources names every source, alias and size that the code has."""

from pathlib import Path

import pytest

from hilum.findings import ALIASES, FINDING_SETS
from hilum.sources import SOURCES

PAGE = (Path(__file__).parents[2] / "docs/reference/sources.md").read_text()


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_has_a_row(source):
    assert f"\n| `{source}` |" in PAGE


@pytest.mark.parametrize(
    "which", ["nih", "nih-cxr-lt", "mimic-cxr-lt", "chexpert", "padchest", "cxr-lt-2026-task1", "vindr"]
)
def test_the_size_of_every_set(which):
    assert f"`{which}`, {len(FINDING_SETS[which])}" in PAGE


@pytest.mark.parametrize("alias", ALIASES)
def test_every_alias(alias):
    rows = [line for line in PAGE.splitlines() if line.endswith(f"| {ALIASES[alias]} |")]
    assert any(alias in row for row in rows)
