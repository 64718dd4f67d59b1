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
