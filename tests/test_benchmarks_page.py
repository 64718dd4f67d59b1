"""The page on the benchmarks repeats what was measured, to the digit."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/how-to/benchmarks.md").read_text()
MEASURED = json.loads((ROOT / "bench/results/phantom_small.json").read_text())
POWER = json.loads((ROOT / "bench/results/power.json").read_text())


def told(value: list[float] | float) -> str:
    """0.605 [0.599, 0.610] as the page writes it."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"


@pytest.mark.parametrize("row", MEASURED["rows"], ids=lambda row: row["what"])
def test_every_row_stands_on_the_page(row: dict[str, list[float]]) -> None:
    cells = [told(row[tier]) for tier in ("head", "medium", "tail")]
    assert f"| {row['what']} | {' | '.join(cells)} |" in PAGE


def test_the_findings_outside_their_range_are_named() -> None:
    outside = [name for name, facts in MEASURED["findings"].items() if not facts["within"]]
    assert f"{26 - len(outside)} of the 26 findings" in PAGE
    assert all(name in PAGE for name in outside)


def test_what_compare_can_tell_stands_on_the_page() -> None:
    none, some = (row["told_apart"] for row in POWER["rows"])
    assert f"{none:.1%}" in PAGE
    assert f"{some:.1%}" in PAGE
