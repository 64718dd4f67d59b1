"""The figures on the page about rare findings are those of the stored results."""

import json
from pathlib import Path

import pytest

from tests.figures import interval

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/how-to/long-tail.md").read_text().replace("\n", " ")
GENERATED = json.loads((ROOT / "bench/results/generated.json").read_text())


@pytest.mark.parametrize(("row", "tiers"), [(0, ("all", "medium", "tail")), (1, ("all", "tail"))])
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
    assert not blurred["tail"]["told_apart"]
    assert {row["images"] for row in GENERATED["rows"]} == {457}
    assert f"adds 457 images with a tail finding to {GENERATED['real']:,} real training images" in PAGE
