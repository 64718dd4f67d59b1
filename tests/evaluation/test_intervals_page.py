"""docs/why/intervals.md repeats figures of two benchmarks; they must be the ones that were measured."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/why/intervals.md").read_text(encoding="utf-8")


def result(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / f"bench/results/{name}.json").read_text())
    return loaded


def line(row: dict[str, Any]) -> str:
    """A row of the page's table."""
    shares = " | ".join(f"{100 * row[key]:.1f} %" for key in ("centred", "percentile", "expanded"))
    return f"| {row['world']} | {row['what']} | {shares} | {row['width']:.3f} | {row['shift']:+.4f} | {row['intervals']:,} |"


def test_the_coverage_table_is_the_measured_one() -> None:
    rows = [row for row in result("coverage")["rows"] if row["what"].endswith(" ap")]
    assert rows
    shown = [text for text in PAGE.splitlines() if text.startswith("| ") and "%" in text]
    assert shown == [line(row) for row in rows]


def test_coverage_of_macro_averages_meets_the_goal() -> None:
    measured = result("coverage")
    assert measured["ours"] >= 0.90
    assert f"{100 * measured['ours']:.1f} %" in PAGE


def test_speed_meets_the_goal() -> None:
    measured = result("metrics")
    peak = next(row["ours"] for row in measured["rows"] if "peak memory" in row["what"])
    assert measured["ratio"] >= 50
    assert peak < 1.5
    assert f"{measured['ratio']:.0f} times" in PAGE
    assert f"{peak:.2f} GiB" in PAGE
