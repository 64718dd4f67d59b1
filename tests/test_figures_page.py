"""Pages between marks show the stored figures as they are, and sentences that follow from them."""

import importlib
import inspect
import json
from argparse import Namespace
from pathlib import Path

import pytest

from hilum.cli import studies as verbs
from hilum.training.view_classifier import STEPS, views

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


@pytest.mark.parametrize("name", ["self_training", "views"])
def test_the_page_shows_the_figures_on_file(bench, name):
    page = bench("figures_page")
    figures = getattr(page, name)
    text = (page.DOCS / page.PAGES[figures]).read_text(encoding="utf-8")
    made = json.loads((page.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert page.laid(text, name, figures(made)) == text, "run python bench/figures_page.py"


def tier(gain, over_noisy, noisy):
    maps = {"self-trained": 0.4, "labelled only": 0.3, "labelled only, noisy": noisy, "full labels": 0.5}
    shares = {"recovered": 0.5, "recovered_over_noisy": None}
    return {"map": maps, "gain": gain, "gain_over_noisy": over_noisy, **shares}


def test_every_tier_has_a_row_and_its_control(bench):
    tiers = {
        "all": tier([0.1, 0.05, 0.15], [-0.1, -0.2, 0.1], 0.5),
        "head": tier([0.1, None, None], [0.1, 0.05, 0.2], 0.3),
        "tail": tier([0.1, -0.05, 0.15], [0.1, 0.05, 0.2], 0.3),
    }
    told = bench("figures_page").self_training(
        {"command": "c", "date": "d", "commit": "e", "rows": [{"case": "absent", "tiers": tiers}]}
    )
    what = "every second finding in three quarters of the studies"
    assert (
        f"| {what} | all | 0.300 | 0.400 | 0.500 | +0.100 [+0.050, +0.150] | 50 % | 0.500 | -0.100 [-0.200, +0.100] | - |"
        in told
    )
    assert "labelled studies alone is above chance: all 1 of 1, head 0 of 1, tail 0 of 1." in told
    assert "noise is above chance: all 0 of 1, head 1 of 1, tail 1 of 1." in told


def test_the_control_s_share_is_of_its_own_gap(bench):
    share = bench("self_training").share
    assert (share(0.4, 0.3, 0.5), share(0.4, 0.5, 0.5)) == (pytest.approx(0.5), None)


def test_options_that_decide_a_run_decide_its_folder(bench, tmp_path):
    folder = bench("self_training").runs_folder
    given = {"folder": tmp_path, "match_prevalence": False, "start": "scratch", "weight": 1.0, "size": 96, "rounds": 2,
             "student": ["augment.erase=0.3"], "quick": False}  # fmt: skip
    changes = [{}, {"match_prevalence": True}, {"start": "continued"}, {"weight": 0.5}, {"size": 64}, {"rounds": 1},
               {"student": []}, {"student": ["augment.erase=0.3", "model.head.dropout=0.3"]}, {"quick": True}]  # fmt: skip
    assert len({folder(Namespace(**given | change)) for change in changes}) == len(changes)


def test_the_benchmark_measures_the_view_classifier_that_is_shipped(bench):
    assert bench("views").STEPS == STEPS
    for work in (views, verbs.views):
        assert inspect.signature(work).parameters["steps"].default == STEPS
