"""The figures on the pages about fusions and self-training are those of the stored results."""

import json
from pathlib import Path

import pytest

from tests.figures import above, interval

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/why/fusion.md").read_text()
TAUGHT = (ROOT / "docs/how-to/self-training.md").read_text()
PARTS = json.loads((ROOT / "bench/results/fusion_as_published.json").read_text())["parts"]
FAULTS, LEAKS = PARTS["faults"], PARTS["split"]
SPLIT = json.loads((ROOT / "bench/results/split_by_image.json").read_text())
SELF = json.loads((ROOT / "bench/results/self_training.json").read_text())["rows"]
VIEWS = "bench/results/reproduce_chexfusion_views"
EVERY, SEVERAL = json.loads((ROOT / f"{VIEWS}.json").read_text())["tables"][0]["panels"]
OTHER = json.loads((ROOT / f"{VIEWS}_32_bit.json").read_text())["tables"][0]["panels"][1]


@pytest.mark.parametrize("row", range(len(EVERY["rows"])))
def test_every_row_of_the_views_table(row):
    one, other = EVERY["rows"][row], SEVERAL["rows"][row]
    beyond = "" if one["name"] == "weighted 7:3" else interval(above(SEVERAL, "weighted 7:3", one["name"]), "+") + " "
    printed = f"{one['theirs']['all']:.3f} " if one["theirs"] else ""
    line = f"| {one['name']} | {interval(one['ours']['all'])} | {interval(other['ours']['all'])} | {beyond}| {printed}|"
    assert line in PAGE


LIKE = [
    "weighted 7:3, head trained on",
    "mean of features, head trained on",
    "weights learned per finding, head trained on",
]


@pytest.mark.parametrize("lower", [*LIKE, "concat"])
def test_the_transformer_is_above_by_what_the_page_says(lower):
    found = above(SEVERAL, lower, "CheXFusion")
    assert interval(found) + " above" in PAGE.replace("\n", " ")
    assert found[1] > 0, "the sentence says it is"


def test_how_much_of_the_gain_is_a_head_that_was_trained_on():
    on = above(SEVERAL, "weighted 7:3", LIKE[0])
    assert f"That alone is worth {interval(on)} on 7:3" in PAGE.replace("\n", " ")
    assert 0.5 < on[0] / above(SEVERAL, "weighted 7:3", "CheXFusion")[0] < 0.6, "more than half"


def test_another_first_stage():
    page = PAGE.replace("\n", " ")
    single, fused = (row["ours"]["all"] for row in OTHER["rows"] if row["name"] in ("single view", "CheXFusion"))
    assert f"{interval(single)} instead of {interval(SEVERAL['rows'][0]['ours']['all'])}" in page
    assert interval(fused) in page
    for lower in ("weighted 7:3, head trained on", "weights learned per finding, head trained on", "concat"):
        found = above(OTHER, lower, "CheXFusion")
        assert interval(found) + " above" in page
        assert found[1] > 0


@pytest.mark.parametrize(
    "row", [row for row in FAULTS["rows"] if row.get("on") == "every study"], ids=lambda row: row["what"]
)
def test_every_fault(row):
    costs = [interval(row["costs"][column]["difference"], "+") for column in ("all", "tail")]
    assert f"| {row['what']} | {costs[0]} | {costs[1]} |" in PAGE
    assert f"{row['ours']['all'][0]:.3f}; 95 %" in PAGE.replace("\n", " ")


@pytest.mark.parametrize("row", LEAKS["rows"], ids=lambda row: row["what"])
def test_what_the_split_by_image_flatters(row):
    assert interval(row["flatters"], "+") in PAGE
    for noun, share in LEAKS["shared"]["image"].items():
        assert f"{share:.0%}".replace("%", " %") in PAGE, noun


@pytest.mark.parametrize("row", SELF, ids=lambda row: row["case"])
def test_what_self_training_brings(row):
    every, head = row["tiers"]["all"], row["tiers"]["head"]
    maps = " | ".join(f"{every['map'][arm]:.3f}" for arm in ("labelled only", "self-trained", "full labels"))
    assert f"| {maps} | {interval(every['gain'], '+')} | {every['recovered']:.0%}".replace("%", " %") in TAUGHT
    for value in (head["gain"][0], row["tiers"]["tail"]["gain"][0]):
        assert f"{value:+.3f}" in TAUGHT
    assert f"{head['recovered']:.0%}"[:-1] in TAUGHT


def test_the_sentences_on_self_training():
    page = TAUGHT.replace("\n", " ")
    tiers = {row["case"]: row["tiers"] for row in SELF}
    assert {row["runs"] for row in SELF} == {2}
    for key, tier, words in (
        ("recovered_over_noisy", "head", "recover {} to {} % of its gap"),
        ("recovered", "head", "({} to {} % of the gap of labelled studies alone)"),
        ("recovered_over_noisy", "all", "Over all findings it is {} to {} %"),
    ):
        parts = [round(100 * one[tier][key]) for one in tiers.values()]
        assert words.format(min(parts), max(parts)) in page
    above = {case: [one[tier]["gain_over_noisy"][1] > 0 for tier in ("head", "all")] for case, one in tiers.items()}
    assert above == {"unlabelled": [True, False], "unknown": [True, True], "absent": [True, True]}
    assert tiers["unlabelled"]["tail"]["gain_over_noisy"][2] < 0, "the tail loses"
    costs = [one["all"]["map"]["labelled only"] - one["all"]["map"]["labelled only, noisy"] for one in tiers.values()]
    assert f"The noise alone costs up to {max(costs):.3f}" in page
    assert abs(costs[list(tiers).index("unlabelled")]) < 0.0005, "nothing where whole studies are unlabelled"


@pytest.mark.parametrize("row", SPLIT["rows"], ids=lambda row: row["what"])
def test_what_the_split_by_image_flatters_on_real_images(row):
    maps = [interval(row[f"map, by {by}"]) for by in ("image", "patient")]
    gains = [interval(row[f"{measure}, flattered by"], "+") for measure in ("map", "auroc")]
    assert f"| {' | '.join([row['what'], *maps, *gains])} |" in PAGE
    assert f"{SPLIT['images']:,} images of {SPLIT['patients']:,} patients" in PAGE
    assert f"{SPLIT['shared']['image']:.0%}".replace("%", " %") in PAGE
