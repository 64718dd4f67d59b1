"""Whether features are cached: decided by the recipe and the disk, said, noted, kept; and whole runs of two stages on them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch
import yaml
from lightning_fabric import Fabric
from safetensors.torch import load_file

from hilum.data import features as held
from hilum.data.features import told_bytes
from hilum.errors import InputError, MachineError
from hilum.inference.tta import transforms
from hilum.recipe import TrainSpec, load_recipe, parse_recipe
from hilum.tables import read_predictions
from hilum.training import feature_choice
from hilum.training.checkpoint import load_checkpoint, save_checkpoint
from hilum.training.feature_choice import choose_features
from hilum.training.features import StageFeatures
from hilum.training.loop import StageLoop
from hilum.training.plan import check_recipe
from hilum.training.run import train
from hilum.training.stage import _start_from
from tests.small import FINDINGS, small_studies, write_small_studies
from tests.training.test_features import SPEC, STILL, Killed, classifier, parts, stage

TWO_STAGES = """
findings: null
augment: {name: standard, noise: 0.0}
split: {valid: 0.25, test: 0.25}
predict: {tta: [flip]}
stages:
  - {name: single, model: {backbone: {name: test_resnet}}, train: {level: image, epochs: 1, batch_size: 16}}
  - {name: fusion, init: single, freeze: backbone, train: {level: study, epochs: 2, batch_size: 8, feature_versions: 1, views: 3}}
"""


@pytest.fixture(scope="module")
def small():
    return small_studies(patients=12)


def chosen(folder, small, monkeypatch, *, free: int = 10**9, before=None, said=None, frozen=True, **options):
    for module in (feature_choice, held):
        monkeypatch.setattr(module, "free_bytes", lambda base: free)
    one = stage(STILL, **options)
    if not frozen:
        one.freeze = ["head"]
    fabric = Fabric(accelerator="cpu", devices=1)
    studies = parts(small)
    say = (said if said is not None else []).append
    return choose_features(one, classifier(), fabric, *studies, base=folder, spec=SPEC, before=before, say=say)


def need(folder, small, **options) -> int:
    fabric = Fabric(accelerator="cpu", devices=1)
    return StageFeatures(stage(STILL, **options), classifier(), fabric, *parts(small), folder, SPEC).bytes


def test_auto_caches_what_fits_in_half_of_the_free_disk(small, tmp_path, monkeypatch):
    bytes_ = need(tmp_path, small)
    said: list[str] = []
    train_, valid, facts = chosen(tmp_path, small, monkeypatch, free=2 * bytes_, said=said)
    assert train_.features.versions == 3
    assert valid.features.versions == 1
    assert (facts["used"], facts["versions"], facts["bytes"]) == (True, 2, bytes_)
    assert len(set(facts["keys"])) == 3
    assert facts["seconds"] > 0
    assert {path.name for path in tmp_path.iterdir()} == set(facts["keys"])
    assert any("augmented versions" in line and "kB" in line for line in said[:1]), (
        "the size is told before it is written"
    )
    again = chosen(tmp_path, small, monkeypatch, free=1, before=facts)[2]
    assert again == facts, "nothing was left to compute"


@pytest.mark.parametrize("wish", ["auto", "on"])
def test_fewer_augmented_versions_are_taken_before_none(small, tmp_path, monkeypatch, wish):
    """4, 2, 1, as many as fit; which and why is said, noted, and kept on resuming."""
    needs = {count: need(tmp_path, small, epochs=9, feature_versions=count) for count in (4, 2, 1)}
    share = 2 if wish == "auto" else 1
    for taken, free in ((4, needs[4]), (2, needs[4] - 1), (2, needs[2]), (1, needs[2] - 1), (1, needs[1])):
        said: list[str] = []
        folder, given = tmp_path / f"{taken}-{free}", {"epochs": 9, "feature_cache": wish}
        train_, _, facts = chosen(folder, small, monkeypatch, free=share * free, said=said, **given)
        assert train_.features.versions == 1 + taken
        assert (facts["versions"], facts["bytes"], len(facts["keys"])) == (taken, needs[taken], 1 + taken)
        assert f"{taken} augmented version" in said[0]
        less = "4 augmented versions would need"
        assert (less in said[1], less in facts["reason"]) == (taken < 4, taken < 4)
        again = chosen(folder, small, monkeypatch, before=facts, **given)
        assert again[0].features.versions == 1 + taken, "though the disk has room by now"
        assert again[2] == facts
    if wish == "auto":
        assert chosen(tmp_path / "none", small, monkeypatch, free=2 * needs[1] - 1, epochs=9)[0].features is None
    else:
        with pytest.raises(MachineError, match="are free"):
            chosen(tmp_path / "none", small, monkeypatch, free=needs[1] - 1, epochs=9, feature_cache="on")


def test_auto_recomputes_what_does_not_fit_and_says_so(small, tmp_path, monkeypatch):
    """As many versions as the recipe names, or none."""
    said: list[str] = []
    few = {"free": 2 * need(tmp_path, small) - 1, "feature_versions": 2}
    train_, _, facts = chosen(tmp_path, small, monkeypatch, said=said, **few)
    assert train_.features is None
    assert not facts["used"]
    assert "more than half" in facts["reason"]
    assert "more than half" in said[0]
    assert not list(tmp_path.iterdir())
    kept = chosen(tmp_path, small, monkeypatch, before=facts)[2]
    assert not kept["used"], "what a run began with it keeps, whatever the disk has become"


def test_a_wish_is_followed_or_refused(small, tmp_path, monkeypatch):
    bytes_ = need(tmp_path, small)
    assert chosen(tmp_path, small, monkeypatch, feature_cache="off")[0].features is None
    assert chosen(tmp_path, small, monkeypatch, frozen=False)[2]["reason"] == "the backbone is trained"
    with pytest.raises(MachineError, match=r"are free.*[Ff]ree some space.*feature_cache=off"):
        chosen(tmp_path, small, monkeypatch, free=bytes_ - 1, feature_cache="on", feature_versions=2)
    assert chosen(tmp_path, small, monkeypatch, free=bytes_, feature_cache="on")[2]["used"]


def test_the_recipe_is_checked():
    page = {"model": {"backbone": "test_resnet"}, "train": {"feature_cache": True}}
    assert parse_recipe(page, ["train.feature_cache=off"]).stages[0].train == TrainSpec(feature_cache="off")
    with pytest.raises(InputError, match="the backbone is trained"):
        check_recipe(parse_recipe(page))
    with pytest.raises(InputError, match="feature_versions is -1"):
        check_recipe(parse_recipe(page, ["freeze=backbone", "train.feature_versions=-1"]))
    with pytest.raises(InputError, match=r"train\.feature_cache"):
        parse_recipe(page, ["train.feature_cache=maybe"])
    recipe = parse_recipe(page, ["freeze=backbone"])
    assert parse_recipe(yaml.safe_load(recipe.to_yaml())) == recipe


@pytest.mark.parametrize("name", ["chexfusion", "chexfusion_384"])
def test_the_page_says_what_the_recipes_features_need(name):
    """Of the 264,849 images with public labels, split as the recipe says; ConvNeXt-S makes 768 maps, each 1/32 as wide."""
    recipe = load_recipe(name)
    valid = round(264_849 * recipe.split.valid)
    train, side = 264_849 - valid - round(264_849 * recipe.split.test), recipe.cache.size // 32
    each = 768 * side * side * 2
    transformed = len(transforms(recipe.predict.tta)) - 1
    assert recipe.stages[0].model.backbone.name.startswith("convnext_small")
    cells = [told_bytes(each * (train * (1 + count) + valid * (1 + transformed))) for count in (4, 2, 1)]
    page = (Path(__file__).parents[2] / "docs/why/feature-cache.md").read_text()
    assert f"| {recipe.cache.size} px | 768 x {side} x {side} x 2 = {each:,} bytes | {' | '.join(cells)} |" in page
    assert f"{train:,}" in page
    assert f"{valid:,}" in page


@pytest.mark.parametrize("fault", ["missing", "renamed", "reshaped"])
def test_a_stage_that_does_not_fit_the_one_before_is_refused(fault):
    source, model = classifier(), classifier(1)
    weights = dict(source.state_dict())
    key = next(key for key in weights if key.startswith("backbone") and key.endswith("running_var"))
    value = weights.pop(key)
    if fault == "renamed":
        weights[key + "s"] = value
    if fault == "reshaped":
        weights[key] = value[:-1]
    earlier = SimpleNamespace(state_dict=lambda: weights, architecture=source.architecture, findings=FINDINGS)
    before = {name: part.clone() for name, part in model.state_dict().items()}
    second = stage()
    second.init = "first"
    with pytest.raises(InputError, match=f"first: the weights do not fit.*{key}"):
        _start_from(second, model, {"first": earlier})
    assert all(torch.equal(part, before[name]) for name, part in model.state_dict().items())
    good = SimpleNamespace(state_dict=source.state_dict, architecture=source.architecture, findings=FINDINGS)
    assert _start_from(second, model, {"first": good}).whole
    assert torch.equal(model.state_dict()[key], value)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_small_studies(folder, patients=24)
    (folder / "two.yaml").write_text(TWO_STAGES)
    return folder


def options(data, cache: str) -> list[str]:
    return [f"studies={data / 'studies.parquet'}", f"cache.folder={data / cache}", "cache.size=32"]


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    said: list[str] = []
    folder = train(
        data / "two.yaml", options(data, "cache"), run=tmp_path_factory.mktemp("runs") / "run", say=said.append
    )
    return folder, said


def noted(folder) -> dict:
    stages = json.loads((folder / "manifest.json").read_text())["stages"]
    return {name: facts["features"] for name, facts in stages.items()}


def same_end(one, other) -> bool:
    ends = [load_file(folder / "bundle" / "model.safetensors") for folder in (one, other)]
    return all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_a_run_of_two_stages_trains_the_second_on_cached_features(data, run):
    folder, said = run
    facts = noted(folder)
    assert not facts["single"]["used"]
    assert facts["fusion"]["used"]
    assert {path.name for path in (data / "cache" / "features").iterdir()} >= set(facts["fusion"]["keys"])
    assert [line.startswith("features") and "in validation under flip" in line for line in said].count(True) == 1
    first, second = (load_file(folder / name / "checkpoints" / "best.safetensors") for name in facts)
    frozen = [key for key in first if key.startswith("model/backbone")]
    assert any(key.endswith("running_mean") for key in frozen)
    whole = load_file(folder / "bundle" / "model.safetensors")
    assert not set(frozen) & set(second), "what is frozen is not saved once more"
    assert all(torch.equal(first[key], whole[key.removeprefix("model/")]) for key in frozen)
    assert read_predictions(folder / "predictions_test.parquet").table.height > 0


def test_a_run_killed_within_its_second_stage_goes_on_bit_for_bit(data, run, tmp_path, monkeypatch):
    """And finds the features computed: its first stage ends with the same weights, so the key is the same."""
    step = StageLoop._step

    def dying(self, order, at):
        if (self.name, self.at.epoch, at) == ("fusion", 1, 1):
            raise Killed
        return step(self, order, at)

    more = [*options(data, "cache"), "train.checkpoint_minutes=0"]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StageLoop, "_step", dying)
        train(data / "two.yaml", more, run=tmp_path / "run")
    assert noted(tmp_path / "run")["fusion"]["seconds"] == 0
    train(None, run=tmp_path / "run", resume=True)
    assert same_end(run[0], tmp_path / "run")
    logs = [
        pl.read_csv(folder / "log.csv").drop("seconds", "studies_per_second") for folder in (run[0], tmp_path / "run")
    ]
    assert logs[0].equals(logs[1])
    shutil.rmtree(data / "cache" / "features")
    train(None, run=tmp_path / "run", resume=True)
    assert not (data / "cache" / "features").exists(), "for a stage that is finished no features are computed"


def test_runs_that_share_a_backbone_may_keep_the_features_of_test_studies_too(data, run, tmp_path, monkeypatch):
    """`all`: the same answers within what float16 rounds, and the next run asks the backbone for no image."""
    more = [*options(data, "cache"), "stages.fusion.train.feature_cache=all"]
    train(data / "two.yaml", more, run=tmp_path / "one")
    found = {name: read_predictions(folder / f"predictions_{name}.parquet").table for name in ("valid", "test") for folder in [run[0]]}  # fmt: skip
    for name, theirs in found.items():
        ours = read_predictions(tmp_path / "one" / f"predictions_{name}.parquet").table
        assert ours["study_id"].equals(theirs["study_id"])
        assert abs(ours.select(FINDINGS).to_numpy() - theirs.select(FINDINGS).to_numpy()).max() < 1e-3
    second = {"init": str(tmp_path / "one" / "bundle"), "freeze": ["backbone"], "model": {"backbone": "test_resnet"}}
    page = yaml.safe_load(TWO_STAGES)
    (tmp_path / "second.yaml").write_text(yaml.safe_dump(page | {"stages": [page["stages"][1] | second]}))
    fill = StageFeatures._fill
    filled: list[str] = []
    monkeypatch.setattr(StageFeatures, "_fill", lambda self, version, label, progress: filled.append(label) or fill(self, version, label, progress))  # fmt: skip
    train(tmp_path / "second.yaml", [*options(data, "cache"), "train.feature_cache=all"], run=tmp_path / "two")
    assert not filled, "all of it was there"


def test_checkpoints_of_earlier_days_hold_what_is_frozen_and_load(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "run")
    whole = load_file(run[0] / "bundle" / "model.safetensors")
    frozen = {key: value for key, value in whole.items() if key.startswith("backbone.")}
    for name in ("best", "last"):
        path = tmp_path / "run" / "fusion" / "checkpoints" / f"{name}.safetensors"
        facts, groups = load_checkpoint(path)
        save_checkpoint(path, facts, **(groups | {"model": groups["model"] | frozen}))
    shutil.rmtree(tmp_path / "run" / "bundle")
    train(None, run=tmp_path / "run", resume=True)
    again = load_file(tmp_path / "run" / "bundle" / "model.safetensors")
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[key], whole[key]) for key in whole)


def test_processes_that_wait_are_spoken_of(tmp_path, small, monkeypatch):
    alone, several, done = [], [], []
    chosen(tmp_path / "one", small, monkeypatch, said=alone)
    monkeypatch.setattr(Fabric, "world_size", 4)
    chosen(tmp_path / "four", small, monkeypatch, said=several)
    chosen(tmp_path / "four", small, monkeypatch, said=done)
    assert any("one of 4 processes; the others wait" in line for line in several)
    assert not any("the others wait" in line for line in [*alone, *done])


@pytest.mark.long
def test_two_processes_share_one_feature_cache(data, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "hilum.cli",
               "train", str(data / "two.yaml"), *options(data, "shared"), "train.devices=2", "--run", str(tmp_path / "run")]  # fmt: skip
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    facts = json.loads((tmp_path / "run" / "manifest.json").read_text())["stages"]["fusion"]["features"]
    held = [pl.read_parquet(path) for path in (data / "shared" / "features").glob("*/shard-*.parquet")]
    assert facts["used"]
    assert sum(part.height for part in held) == pl.concat(held)["identity"].n_unique(), "nothing was computed twice"
