"""Pre-training without labels: the loss by its definition, labels without effect, resumed bit for bit, passed on by init."""

import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hilum.errors import InputError
from hilum.inference.predict import load
from hilum.models.classifier import build_classifier
from hilum.recipe import ModelSpec, parse_recipe
from hilum.training.checkpoint import load_checkpoint
from hilum.training.plan import check_recipe
from hilum.training.run import train
from hilum.training.simclr import OBJECTIVES, ntxent
from tests.small import FINDINGS, write_small_studies
from tests.training.test_loop import Killed, make, weights


def test_ntxent_by_its_definition():
    one, other = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    both = F.normalize(torch.cat([one, other]), dim=1)
    expected = 0.0
    for i in range(10):
        alike = [math.exp(float(both[i] @ both[k]) / 0.3) for k in range(10)]
        expected -= math.log(alike[(i + 5) % 10] / (sum(alike) - alike[i])) / 10
    assert float(ntxent(one, other, 0.3)) == pytest.approx(expected, rel=1e-5)
    assert float(ntxent(one, one, 0.05)) < float(ntxent(one, other, 0.05))


def contrast(folder, **options):
    plain = make(folder, select="loss", epochs=2, lr=3e-3, **options)
    torch.manual_seed(0)
    model = build_classifier(ModelSpec(backbone="test_resnet"), FINDINGS, 32)
    kind = OBJECTIVES["simclr"](temperature=0.2, dim=16)
    return kind(plain.fabric, "pre", plain.spec, model, [], plain.loss, plain.augment, plain.train, plain.valid, folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    loop = contrast(tmp_path_factory.mktemp("whole"), ema=0.5)
    start = weights(loop)
    return start, loop.run(), weights(loop)


def test_it_learns(undisturbed):
    start, rows, end = undisturbed
    assert set(rows[0]) & {"valid_loss", "valid_map"} == {"valid_loss"}
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert not any(key.startswith(("head", "fusion")) for key in end)
    assert any(not torch.equal(start[key], end[key]) for key in start if key.startswith("backbone"))


def test_labels_play_no_part(undisturbed, tmp_path):
    loop = contrast(tmp_path, ema=0.5)
    loop.train.labels[:] = np.random.default_rng(0).permutation(loop.train.labels)
    loop.train.labels[::2] = np.nan
    loop.run()
    assert all(torch.equal(value, undisturbed[2][key]) for key, value in weights(loop).items())


def test_killed_it_ends_bit_for_bit_the_same(undisturbed, tmp_path, monkeypatch):
    broken = contrast(tmp_path, ema=0.5)
    step, count = broken._step, iter(range(100))

    def dying(order, at):
        if next(count) == broken.steps + 1:
            raise Killed
        return step(order, at)

    monkeypatch.setattr(broken, "_step", dying)
    with pytest.raises(Killed):
        broken.run()
    resumed = contrast(tmp_path, ema=0.5)
    rows = resumed.run(resume=True)
    assert all(torch.equal(value, undisturbed[2][key]) for key, value in weights(resumed).items())
    assert [row["valid_loss"] for row in rows] == [row["valid_loss"] for row in undisturbed[1]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    write_small_studies(folder, patients=30)
    page = {"studies": str(folder / "studies.parquet"), "cache": {"folder": str(folder / "cache"), "size": 32},
            "split": {"valid": 0.25, "test": 0}, "model": {"backbone": {"name": "test_resnet"}},
            "train": {"epochs": 1, "batch_size": 16}}  # fmt: skip
    stages = [{"name": "pretrain", "objective": "simclr"}, {"name": "main", "init": "pretrain", "freeze": "backbone"}]
    (folder / "page.yaml").write_text(json.dumps({**page, "stages": stages}))
    (folder / "next.yaml").write_text(json.dumps({**page, "findings": ["Hernia"], "freeze": "backbone"}))
    said: list[str] = []
    return folder, train(folder / "page.yaml", run=folder / "run", say=said.append), said


def backbone_of(bundle):
    return load(bundle, device="cpu").classifier.backbone.state_dict()


def test_a_later_stage_starts_from_it(run):
    _, folder, said = run
    first = load_checkpoint(folder / "pretrain" / "checkpoints" / "best.safetensors")[1]["model"]
    assert all(torch.equal(first[f"backbone.{key}"], value) for key, value in backbone_of(folder / "bundle").items())
    assert any(line.startswith("init") and "from pretrain" in line for line in said)


def test_a_run_on_other_findings_starts_from_a_bundle(run):
    """So a phantom of other patients can be what comes first: its bundle is named as `init`, and the backbone goes over."""
    home, folder, _ = run
    said: list[str] = []
    again = train(home / "next.yaml", [f"init={folder / 'bundle'}"], run=home / "again", say=said.append)
    before, after = backbone_of(folder / "bundle"), backbone_of(again / "bundle")
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert load(again / "bundle", device="cpu").findings == ["Hernia"]
    assert any(f"{len(before):,} keys matched" in line for line in said if line.startswith("init"))


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ({"objective": "simclear"}, "id you mean 'simclr'"),
        ({"objective": {"name": "simclr", "temperature": 0.0}}, "temperature 0.0"),
        ({"objective": "simclr", "freeze": "head"}, "freeze does not go with simclr"),
        ({"objective": "simclr", "train": {"accumulate": 2}}, "train.accumulate does not go with simclr"),
    ],
)
def test_likely_mistakes(stage, said):
    with pytest.raises(InputError, match=said):
        check_recipe(parse_recipe({"stages": [{"name": "pre", **stage}, {"name": "main", "init": "pre"}]}))


def test_the_findings_come_last():
    with pytest.raises(InputError, match="the last stage learns simclr"):
        check_recipe(parse_recipe({"objective": "simclr"}))
