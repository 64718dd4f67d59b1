"""Deferred re-weighting is a second stage: same model, same loss, class weights on, a lower learning rate."""

import pytest
import torch
from safetensors.torch import load_file

from hilum.recipe import load_recipe
from hilum.reproductions import read_system
from hilum.training import stage as stages
from hilum.training.run import train
from tests.small import write_small_studies


def test_the_second_stage_differs_in_weights_and_rate_alone():
    first, second = load_recipe("ldam_drw").stages
    assert second.init == first.name
    assert second.loss.name == first.loss.name == "ldam"
    assert second.loss.options == first.loss.options | {"class_weights": "class_balanced"}
    assert second.model == first.model
    assert second.augment == first.augment
    assert second.freeze == []
    assert second.train.lr == pytest.approx(0.1 * first.train.lr)
    assert first.train.epochs + second.train.epochs == 60


@pytest.mark.parametrize("name", ["CB LDAM-DRW", "RW LDAM-DRW"])
@pytest.mark.parametrize("small", [False, True])
def test_the_rows_of_the_benchmark_switch_after_a_sixth_of_the_epochs(name, small):
    system = read_system("longtail_benchmark")
    second = system.rows[name]
    first = system.rows[str(second.start)]
    one, two = (
        load_recipe(system.small if small else system.recipe, [*row.overrides, *(row.small if small else [])]).stages[0]
        for row in (first, second)
    )
    assert one.train.epochs / (one.train.epochs + two.train.epochs) == pytest.approx(1 / 6, abs=0.05)
    assert one.train.epochs + two.train.epochs == (10 if small else 60)
    assert one.train.patience == 0, "it is re-weighted then, whatever validation says"
    assert two.loss.options == one.loss.options | {"class_weights": two.loss.options["class_weights"]}
    assert two.train.lr == pytest.approx(0.1 * one.train.lr)


def test_the_weights_switch_on_in_a_run(tmp_path, monkeypatch):
    built = []
    build = stages.build_loss

    def spying(*given, **options):
        built.append(build(*given, **options))
        return built[-1]

    monkeypatch.setattr(stages, "build_loss", spying)
    write_small_studies(tmp_path, patients=24)
    options = [f"studies={tmp_path / 'studies.parquet'}", f"cache.folder={tmp_path / 'cache'}", "cache.size=32"]
    options += ["findings=null", "split.valid=0.25", "split.test=0.25", "model.backbone.name=test_resnet"]
    options += ["train.batch_size=16", "train.epochs=1"]
    folder = train("ldam_drw", options, run=tmp_path / "run")
    plain, weighed = built
    assert (plain.positive_weight == 1).all()
    assert weighed.positive_weight.sum().item() == pytest.approx(3)
    assert weighed.positive_weight.max() > weighed.positive_weight.min()
    assert torch.equal(plain.margin, weighed.margin)
    one, two = (load_file(folder / name / "checkpoints" / "best.safetensors") for name in ("margins", "reweighted"))
    moved = [key for key in one if key.startswith("model/") and not torch.equal(one[key], two[key])]
    assert moved, "the second stage trains on"
    rows = (folder / "log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["stage", "margins", "reweighted"]
