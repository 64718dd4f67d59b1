"""The page about cached features says what was measured."""

import json
from pathlib import Path

from tests.figures import interval

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/why/feature-cache.md").read_text().replace("\n", " ")


def stored(name):
    return json.loads((ROOT / f"bench/results/{name}.json").read_text())


def test_what_the_cache_does_to_map():
    made = stored("feature_cache_map")
    assert f"{interval(made['figures']['cached']['all'])} with the cache" in PAGE
    assert f"{interval(made['figures']['recomputed']['all'])} without" in PAGE
    found = made["difference"]["all"]["difference"]
    assert made["minus"] in (["cached", "recomputed"], ["recomputed", "cached"])
    told = found if made["minus"][0] == "cached" else [-found[0], -found[2], -found[1]]
    assert f"a difference of {interval(told, '+')}" in PAGE
    assert made["difference"]["all"]["told_apart"] == (told[1] > 0 or told[2] < 0)


def test_how_much_faster_an_epoch_is():
    made = stored("feature_cache")
    assert f"{made['ours']:.1f} CPU seconds instead of {made['peer']:.1f}, {made['ratio']:.0f} times less" in PAGE
    assert made["ratio"] >= 10, "the goal"
    rows = {row["what"]: row for row in made["rows"]}
    whole = next(row for what, row in rows.items() if what.startswith("clock seconds of 20 epochs and the computing"))
    assert f"20 epochs with the computing of the features pass {whole['ratio']:.0f} times sooner" in PAGE
    assert whole["ratio"] >= 10, "end to end, too"
    assert f"at most {rows['largest difference of a test probability']['cached']:.4f}" in PAGE
    images = rows["images"]["cached"]
    assert f"on {images['train'] + images['valid']} images" in PAGE
