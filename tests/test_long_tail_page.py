"""The figures on the page about rare findings are those of the stored results."""

import json
from pathlib import Path

import pytest

from tests.figures import interval

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/how-to/long-tail.md").read_text().replace("\n", " ")
SINGLE = json.loads((ROOT / "bench/results/single_label.json").read_text())
GENERATED = json.loads((ROOT / "bench/results/generated.json").read_text())


@pytest.mark.parametrize(("row", "tiers"), [(0, ("all", "medium", "tail")), (1, ("all", "medium"))])
def test_what_generated_images_bring(row, tiers):
    made = GENERATED["rows"][row]["tiers"]
    for tier in tiers:
        assert interval(made[tier]["gain"], "+") in PAGE, tier


def test_what_the_sentences_on_generated_images_say():
    perfect, blurred = (row["tiers"] for row in GENERATED["rows"])
    every = perfect["all"]
    assert f"from {every['without']:.3f} to {every['with']:.3f}" in PAGE
    assert every["told_apart"]
    assert not blurred["all"]["told_apart"]
    assert blurred["medium"]["told_apart"]
    assert perfect["head"]["gain"][0] < 0, "all of it outside the head"
    counts = {tier: one["findings"] for tier, one in perfect.items()}
    assert f"the mAP of {counts['all']} findings" in PAGE
    assert f"outside the {counts['head']} head ones" in PAGE
    assert f"{counts['medium']} are medium" in PAGE
    assert f"and {counts['tail']} is tail" in PAGE
    assert {row["images"] for row in GENERATED["rows"]} == {457}
    assert f"adds 457 images with a rare finding to {GENERATED['real']:,} real training images" in PAGE


@pytest.mark.parametrize("row", SINGLE["rows"], ids=lambda row: row["what"])
def test_every_row_of_the_single_label_form(row):
    gain = "" if row["what"] == "Softmax" else interval(row["gain"], "+") + " "
    cells = [row["what"], interval(row["balanced_accuracy"]), interval(row["balanced_test"]), f"{row['accuracy']:.3f}"]
    assert f"| {' | '.join(cells)} | {gain}| {row['theirs'][0]} / {row['theirs'][1]} |" in PAGE


def test_what_the_sentences_on_the_single_label_form_say():
    rows = {row["what"]: row for row in SINGLE["rows"]}
    assert [name for name, row in rows.items() if row["gain"][1] > 0] == ["cRT"]
    assert max(rows, key=lambda name: rows[name]["balanced_accuracy"][0]) == "cRT"
    assert max(rows, key=lambda name: rows[name]["theirs"][0]) == "cRT"
    assert all(row["tiers"]["tail"][0] == 0 for row in rows.values())
    assert rows["Softmax"]["tiers"]["medium"][0] == 0, "finds nothing but head findings"
    for name in ("CB Softmax", "RW Softmax"):
        moved = {tier: rows[name]["tiers"][tier][0] - rows["Softmax"]["tiers"][tier][0] for tier in ("head", "medium")}
        assert moved["head"] < 0 < moved["medium"]
    told = f"{rows['Softmax']['accuracy']:.3f} for the softmax"
    assert told in PAGE
    assert f"({SINGLE['most_common']:.3f} for always the commonest), and {rows['cRT']['accuracy']:.3f} with" in PAGE
    assert f"on the {SINGLE['training_images']:,} images" in PAGE
    assert f"judges {SINGLE['images']:,} test images" in PAGE
    assert (
        f"one of {SINGLE['findings']} (chance {SINGLE['chance']:.2f}), and a balanced set of {SINGLE['balanced_images']}"
        in PAGE
    )
