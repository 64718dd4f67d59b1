"""bench/fusion_as_published.py: each switch makes its fault and nothing else; splits by image leak; sums of mAPs are told right."""

import importlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from hilum.evaluation.intervals import Resampled
from hilum.models.fusions import FUSIONS
from hilum.models.heads import HEADS
from hilum.reproductions.runs import Seeds
from hilum.tables import read_studies, write_studies
from hilum.training.plan import check_recipe
from tests.small import small_studies

BENCH = Path(__file__).parent.parent / "bench"
WIDTHS = {"layers": 2, "heads": 2, "hidden": 16, "dropout": 0.0, "reduce": 1}


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def made(bench, **faults):
    """A fusion with faults and a head, in evaluation mode, their weights the same whatever the faults."""
    torch.manual_seed(0)
    head = HEADS["ml_decoder"](16, 3, dim=16, heads=2, hidden=16, dropout=0.0).eval()
    torch.manual_seed(1)
    fusion = bench("faulty_fusion").as_published(16, 3, **WIDTHS, **faults).eval()

    def read(features, present, view):
        return fusion(head, features, present, view)

    read.fusion = fusion
    return read


def batch(seed=0):
    """Features (3, 4, 16, 3, 3) of studies with 2, 1 and 4 views."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    view = torch.randint(0, 4, present.shape, generator=generator).to(torch.int8)
    return torch.randn(3, 4, 16, 3, 3, generator=generator), present, view


def test_without_a_switch_it_is_our_fusion(bench):
    torch.manual_seed(1)
    ours = FUSIONS["transformer"](16, 3, **WIDTHS).eval()
    torch.manual_seed(1)
    theirs = bench("faulty_fusion").as_published(16, 3, **WIDTHS).eval()
    theirs.load_state_dict(ours.state_dict())
    one, other = ours.tokens(*batch()), theirs.tokens(*batch())
    torch.testing.assert_close(one[0], other[0])
    assert torch.equal(one[1], other[1])


def test_across_the_batch_studies_see_one_another_and_views_do_not(bench):
    features, present, view = batch()
    alone = slice(2, 3)
    for faults, leaks in (({}, False), ({"across": True}, True)):
        logits = made(bench, **faults)
        together, apart = logits(features, present, view), logits(features[alone], present[alone], view[alone])
        assert (together[alone] - apart).abs().max().gt(1e-3).item() is leaks
    torch.manual_seed(1)
    fusion = bench("faulty_fusion").as_published(16, 3, **WIDTHS, across=True).eval()
    changed = features.clone()
    changed[2, 3] += 1.0
    before, after = (fusion.tokens(one, present, view)[0][2].unflatten(0, (4, 9)) for one in (features, changed))
    assert torch.equal(before[:3], after[:3]), "the other views of the study do not notice"
    assert not torch.equal(before[3], after[3])


def test_unmasked_places_hold_one_token_that_counts_and_nothing_of_what_stood_there(bench):
    torch.manual_seed(1)
    fusion = bench("faulty_fusion").as_published(16, 3, **WIDTHS, unmasked=True).eval()
    features, present, view = batch()
    other = features.masked_fill(~present[:, :, None, None, None], 7.0)
    tokens, mask = fusion.tokens(features, present, view)
    assert mask is None
    torch.testing.assert_close(tokens, fusion.tokens(other, present, view)[0])
    narrow, _ = fusion.tokens(features[:2, :2], present[:2, :2], view[:2, :2])  # filled up to four places all the same
    torch.testing.assert_close(narrow, tokens[:2])
    with torch.no_grad():
        fusion.padding += 1.0
    moved = (fusion.tokens(features, present, view)[0] - tokens).abs().amax(dim=(1, 2))
    assert moved[0] > 1e-3
    assert moved[1] > 1e-3
    assert moved[2] == 0, "a study with all four views has no such place"


def test_flat_positions_are_the_same_in_every_row(bench):
    code = bench("faulty_fusion").flat_positions(5, 4, 16).unflatten(0, (5, 4))
    assert (code.std(dim=0) == 0).all()
    assert (code[0].std(dim=0) > 0).any()
    assert code[0, 0].tolist() == pytest.approx(np.sin(np.arange(16)).tolist(), abs=1e-6)
    features, present, view = batch()
    for faults, blind in (({"flat": True}, True), ({}, False)):
        read = made(bench, **faults)
        with torch.no_grad():  # a convolution that sees one position at a time: rows are told by their code alone
            read.fusion.reduce.weight[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0.0
        apart = (read(features, present, view) - read(features.flip(3), present, view)).abs().max()
        assert (apart < 1e-5).item() is blind


@pytest.mark.parametrize("faults", [{}, {"across": True}, {"unmasked": True}, {"flat": True}, {"across": True, "unmasked": True, "flat": True}])  # fmt: skip
def test_each_form_is_finite_and_learns(bench, faults):
    logits = made(bench, **faults)(*batch())
    assert logits.shape == (3, 3)
    assert torch.isfinite(logits).all()
    logits.sum().backward()


def test_every_row_can_be_trained(bench, tmp_path):
    module = bench("fusion_as_published")
    work = module.Work(tmp_path, tmp_path / "runs", tmp_path / "cache", quick=False, replicates=10)
    single = module.Row(module.SINGLE, stage="single_view")
    runs = work.trainings("faults", tmp_path / "studies.parquet", [single, *module.FAULTS.rows], Seeds(1, 2))
    runs.check()
    plans = {row.name: runs.plan(module.replace(row, start=None), 1).stages[0] for row in module.FAULTS.rows}
    assert len({str(plan) for plan in plans.values()}) == len(plans)
    assert all(plan.freeze == ["backbone"] for plan in plans.values())
    assert plans["constant learning rate"].model == plans["correct"].model
    assert (plans["all four"].train.final_lr, plans["all four"].train.warmup) == (1.0, 0.0)
    options = dict(plans["correct"].model.fusion.options)
    for name, plan in plans.items():  # a faulty fusion has the widths of the recipe's own
        check_recipe(module.replace(runs.plan(module.replace(module.FAULTS.rows[0], start=None), 0), stages=[plan]))
        shared = {key: value for key, value in plan.model.fusion.options.items() if key in options}
        assert shared.items() <= options.items(), name


def test_a_split_by_image_leaks_and_a_split_by_patient_does_not(bench, tmp_path):
    module = bench("fusion_as_published")
    table, _ = small_studies(patients=120)
    patients = table["patient_id"].unique(maintain_order=True)
    test = pl.col("patient_id").is_in(patients.head(20).implode())
    write_studies(
        table.with_columns(split=pl.when(test).then(pl.lit("test")).otherwise(pl.lit("train"))),
        tmp_path / "studies.parquet",
        label_level="study",
    )
    files = module.deals(module.Work(tmp_path, tmp_path, tmp_path / "cache", quick=False, replicates=10))
    assert module.shared(files["patient"]) == {"same study": 0.0, "same patient": 0.0}
    assert module.shared(files["image"])["same study"] > 0.5
    for file in files.values():
        split = read_studies(file)
        assert split.filter(split="test")["patient_id"].unique().sort().equals(patients.head(20).sort())
        assert split.filter(split="valid").height / split.filter(pl.col("split") != "test").height == pytest.approx(0.1, abs=0.03)  # fmt: skip


def test_told_adds_macro_values_with_their_signs(bench):
    module = bench("fusion_as_published")

    def drawn(value: float) -> Resampled:
        spread = value + np.linspace(-0.1, 0.1, 101)[:, None] * np.ones(2)
        return Resampled(value={"ap": np.array([value, value + 0.2])}, replicates={"ap": spread})

    sides = {("image", "valid"): drawn(0.5), ("image", "test"): drawn(0.3)}
    everything = np.ones(2, dtype=bool)
    value, low, high = module.told(sides, [(1, "image", "valid"), (-1, "image", "test")], everything)
    assert value == pytest.approx(0.2)
    assert (low, high) == pytest.approx((0.2, 0.2))  # the replicates move together, so nothing is left of their spread
    value, low, high = module.told(sides, [(1, "image", "valid")], everything)
    assert (value, high - low) == pytest.approx((0.6, 0.19))
