"""The figures on the page of reproduced tables are those of the stored results."""

import importlib
import json
from pathlib import Path

import pytest

from tests.figures import above, interval

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/why/reproduced.md").read_text()
BASELINES = {
    "reproduce_chexfusion_components": "baseline",
    "reproduce_class_aware": "BCE",
    "reproduce_robust_loss": "weighted ASL",
}
STORED = {name: json.loads((ROOT / f"bench/results/{name}.json").read_text()) for name in BASELINES}
ROWS = [(name, row) for name, one in STORED.items() for row in range(len(one["tables"][0]["panels"][0]["rows"]))]


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_every_row(name, row):
    panel = STORED[name]["tables"][0]["panels"][0]
    one = panel["rows"][row]
    theirs = {column: value for column, value in (one["theirs"] or {}).items() if value is not None}
    printed = {column: f"{theirs[column]:.3f} " if column in theirs else "" for column in ("all", "tail")}
    beyond = above(panel, BASELINES[name], one["name"])
    told = interval(beyond, "+") + " " if beyond else ""
    ours = interval(one["ours"]["all"]), interval(one["ours"]["tail"])
    assert f"| {one['name']} | {ours[0]} | {printed['all']}| {told}| {ours[1]} | {printed['tail']}|" in PAGE


def test_what_the_robust_loss_is_worth_turns_with_the_learning_rate():
    panel, page = STORED["reproduce_robust_loss"]["tables"][0]["panels"][0], PAGE.replace("\n", " ")
    rates = (", rate x 1/3", "", ", rate x 3")
    for words, arm in (("{}, {} and {} at the three", ""), ("{}, {} and {} with them", "weighted ")):
        found = [above(panel, f"{arm}ASL{rate}", f"{arm}RAL{rate}") for rate in rates]
        assert words.format(*(interval(one, "+") for one in found)) in page
        assert len({one[0] > 0 for one in found}) == 2
        assert all(one[1] > 0 or one[2] < 0 for one in found)
    arms = ("ASL", "weighted ASL", "RAL", "weighted RAL")
    moved = {(arm, rate): abs(above(panel, arm, f"{arm}{rate}")[0]) for arm in arms for rate in rates if rate}
    most = max(moved, key=moved.get)
    assert most == ("weighted ASL", ", rate x 3")
    assert f"by up to {moved[most]:.3f} (weighted ASL, from its middle one to three times that)" in page
    losses = [above(panel, f"{arm}ASL{rate}", f"{arm}RAL{rate}")[0] for arm in ("", "weighted ") for rate in rates]
    assert moved[most] > 2 * max(map(abs, losses)), "more than twice"


def test_every_stored_reproduction_has_a_page():
    elsewhere = {
        "reproduce_chexfusion_views": "docs/why/fusion.md",
        "reproduce_chexfusion_views_32_bit": "docs/why/fusion.md",
        "reproduce_bag_of_tricks": "docs/why/bag-of-tricks.md",
        "reproduce_label_embeddings": "docs/why/label-text.md",
    }
    for file in (ROOT / "bench/results").glob("reproduce_*.json"):
        assert file.stem in BASELINES or file.name in (ROOT / elsewhere[file.stem]).read_text()


def test_the_queries_of_a_decoder(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    made = importlib.import_module("reproduced_page")
    page = (ROOT / "docs/why/label-text.md").read_text()
    panel = json.loads((ROOT / "bench/results/reproduce_label_embeddings.json").read_text())["tables"][0]["panels"][0]
    assert made.table_of(panel) in page
    shared = above(panel, "random, fixed", "text, name and description, one classifier for all")
    assert f"costs {interval([-shared[0], -shared[2], -shared[1]])}" in page
    for row in ("learned", "of the class, projected", "text, the name", "text, name and description"):
        assert abs(above(panel, "random, fixed", row)[0]) < 0.0035
