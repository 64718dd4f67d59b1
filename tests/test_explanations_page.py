"""The figures on the pages about heat maps and the gate are those of the stored results."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GATE = json.loads((ROOT / "bench/results/gate.json").read_text())["rows"]


def interval(values) -> str:
    return f"{values[0]:.3f} [{values[1]:.3f}, {values[2]:.3f}]"


def gate_lines(rows) -> list[str]:
    kinds = list(dict.fromkeys(kind["kind"] for row in rows for kind in row["kinds"]))
    told = [{kind["kind"]: interval(kind["refused"]) for kind in row["kinds"]} for row in rows]
    return [f"| {kind} | {' | '.join(each.get(kind, '') for each in told)} |" for kind in kinds]


@pytest.mark.parametrize("line", gate_lines(GATE))
def test_every_kind_of_picture_stands_on_the_page_of_the_gate(line):
    assert line in (ROOT / "docs/why/gate.md").read_text()


def test_the_claims_of_the_page_of_the_gate_hold():
    for row in GATE:
        refused = {kind["kind"]: kind["refused"] for kind in row["kinds"]}
        assert refused["held-out chests"][0] < 0.04
        for kind in ("hand", "slice of a CT", "cat", "photograph", "noise", "blank", "inverted"):
            assert refused[kind][0] > 0.95, (row["what"], kind)
        for kind in ("upside down", "on its side"):
            assert refused[kind][0] > 0.75, (row["what"], kind)
