"""The page on asking by name shows the benchmark's figures as they are, and says of them what follows."""

import importlib
import json
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("zero_shot_page")


def row(part, p, ap, few, wrong=0.2, chance=0.1):
    ranking = {"ap": [ap, ap - 0.01, ap + 0.01], "chance": chance, "wrong_names": wrong, "wrong_names_95": 0.25, "p": p}
    shots = {count: {"ap": few} for count in ("1", "5", "20")}
    among = {**ranking, "ap": ap}
    return {
        "part": part,
        "unseen": ["a", "b"],
        "seen_map": 0.3,
        "unseen_only": ranking,
        "generalised": among,
        "few_shot": shots,
        "date": "d",
        "commit": "e",
    }


def test_sentences_follow_from_the_rows(page):
    rows = [row("one", 0.01, 0.4, 0.5), row("two", 0.06, 0.3, None), row("three", 0.5, 0.6, 0.5, wrong=0.05)]
    told = page.said(rows)
    assert told[0] == "Ranking over studies, the right names beat 95 % of permuted ones in 1 of 3: one."
    assert "in 2 of 3" in told[2]
    assert told[3] == "1 example does better than the name in 1 of 2."
    assert told[5].startswith("20 examples do better than the name in 1 of 2")


def test_the_block_is_made_anew_and_nothing_else(page):
    made = {"command": "c", "rows": [row("one", 0.01, 0.4, 0.5)]}
    text = "before\n" + page.BEGIN + "old\n" + page.END + "after\n"
    new = page.with_figures(text, made)
    assert new.startswith("before\n" + page.BEGIN)
    assert new.endswith(page.END + "after\n")
    assert "`c`, on d at e." in new
    assert "| one (2) | .300 | .400 [.390, .410] | .100 | .200 | .250 | 0.010 |" in new
    assert "old" not in new
    assert page.with_figures(new, made) == new


def test_the_page_shows_the_figures_on_file(page):
    text = page.PAGE.read_text(encoding="utf-8")
    if page.RESULT.exists():
        assert page.with_figures(text, json.loads(page.RESULT.read_text())) == text
    else:
        assert "Not measured yet" in text


def test_the_page_on_label_texts_has_the_figures_on_file():
    text = (BENCH.parent / "docs/why/label-text.md").read_text(encoding="utf-8")
    rows = json.loads((BENCH / "results/label_texts.json").read_text(encoding="utf-8"))["rows"]
    for one in rows:
        told = [f"{one[key]:.3f}".removeprefix("0") for key in ("closeness", "spread_centred", "spread_white")]
        assert f"| {' | '.join(told)} |" in text, one["prompts"]
    near = rows[-1]["nearest"]
    assert near["Cardiomyopathy"][0] == "Cardiomegaly"
    assert f"{near['Cardiomyopathy'][1]:.2f}".removeprefix("0") in text
    assert near["Scoliosis"][0] == "Tortuous Aorta"
    assert (
        f"(at most {max(near[name][1] for name in ('Hilum', 'Goiter', 'Adenopathy')):.2f})".replace("0.", ".") in text
    )
