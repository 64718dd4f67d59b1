"""tau-normalisation and fresh heads: w / |w|^tau exactly, order within a finding kept, chosen on validation, resumable."""

import copy

import numpy as np
import pytest
import torch

from hilum.errors import InputError
from hilum.models.classifier import build_classifier
from hilum.models.heads import HEADS
from hilum.recipe import ModelSpec, parse_recipe
from hilum.training.checkpoint import load_checkpoint
from hilum.training.plan import check_recipe
from hilum.training.run import train
from hilum.training.tau import LAST_LAYERS, WITH_ROWS, TauLoop, last_layers, rescaled
from tests.small import FINDINGS, write_small_studies
from tests.training.test_loop import Killed, make

SMALL = {
    "linear": {},
    "location_attention": {},
    "mlp": {"hidden": [8]},
    "ml_decoder": {"dim": 16, "heads": 2, "hidden": 16},
}


def test_rows_are_divided_by_their_length_to_the_power_tau():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.5], [0.0, 0.0]])
    assert torch.equal(rescaled(rows, 0.0), rows)
    torch.testing.assert_close(rescaled(rows, 1.0), torch.tensor([[0.6, 0.8], [0.0, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(rescaled(rows, 0.5).norm(dim=-1), rows.norm(dim=-1) ** 0.5)
    assert rescaled(rows, 2.0)[0].norm() < rescaled(rows, 2.0)[1].norm()  # beyond 1 the long become the short


@pytest.mark.parametrize("name", WITH_ROWS)
def test_each_findings_logit_is_its_row_scaled(name):
    """Less the bias, each logit becomes its old value over the row's length to tau: so a finding's studies keep their order."""
    torch.manual_seed(0)
    head = HEADS[name](8, 5, **SMALL[name], **({"groups": 2} if name == "ml_decoder" else {})).eval()
    tokens = torch.randn(7, 4, 8)
    with torch.no_grad():
        before, (layer,) = head(tokens), last_layers(head)
        lengths = layer.reshape(-1, layer.shape[-1]).norm(dim=-1)[:5]
        first = layer.clone()
        layer.copy_(rescaled(first, 0.0))
        assert torch.equal(head(tokens), before)
        layer.zero_()
        bias = head(tokens)
        layer.copy_(rescaled(first, 0.7))
        torch.testing.assert_close(head(tokens) - bias, (before - bias) / lengths**0.7)


def test_every_listed_head_can_be_rescaled_and_both_of_a_pair():
    for name in WITH_ROWS:
        told = "concat" if name in ("linear", "mlp") else None
        head = {"name": name, **SMALL[name]}
        spec = ModelSpec(backbone="test_resnet", head=head, heads="by_view", demographics=told)
        layers = last_layers(build_classifier(spec, FINDINGS, 32).head)
        assert len(layers) == 2
    assert len(LAST_LAYERS) == len(WITH_ROWS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"init": None}, "Name the stage or bundle"),
        ({"tau": []}, "Give numbers"),
        ({"tau": [-1.0]}, "Give numbers from 0"),
        ({"model": {"head": {"name": "csra"}}}, "csra has no row of weights per finding"),
        ({"freeze": "head"}, "tau changes a trained head"),
        ({"train": {"select": "map"}}, "does not change train.select=map"),
    ],
)
def test_likely_mistakes(change, said):
    stage = {"name": "tau", "init": "main", "tau": [0, 1], "train": {"select": "loss"}, **change}
    with pytest.raises(InputError, match=said):
        check_recipe(parse_recipe({"stages": [{"name": "main"}, stage]}))


def test_fresh_without_a_start_is_refused():
    with pytest.raises(InputError, match="without `init` every part is fresh"):
        check_recipe(parse_recipe({"fresh": "head"}))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoupled")
    write_small_studies(folder, patients=40)
    page = folder / "page.yaml"
    page.write_text(
        f"studies: {folder / 'studies.parquet'}\ncache: {{folder: {folder / 'cache'}, size: 32}}\n"
        "split: {valid: 0.25, test: 0.25}\n"
        "train: {epochs: 1, batch_size: 16}\n"
        "stages:\n"
        "  - {name: main, model: {backbone: {name: test_resnet}}}\n"
        "  - {name: crt, init: main, freeze: [backbone, fusion], fresh: head, train: {sampler: balanced}}\n"
        "  - {name: tau, init: main, tau: [0, 0.5, 1], train: {select: balanced_accuracy}}\n"
    )
    said: list[str] = []
    return page, train(page, run=folder / "run", say=said.append), said


def test_a_retrained_head_starts_anew_on_the_same_backbone(run):
    _, folder, said = run
    parts = {
        name: load_checkpoint(folder / name / "checkpoints" / "best.safetensors")[1]["model"]
        for name in ("main", "crt")
    }
    assert not torch.equal(parts["main"]["head.project.weight"], parts["crt"]["head.project.weight"])
    init = [line for line in said if line.startswith("init")]
    backbone = sum(key.startswith("backbone.") for key in parts["main"])
    assert f"{backbone:,} keys matched" in init[0]


def test_the_best_tau_is_kept_and_told(run):
    _, folder, said = run
    facts, groups = load_checkpoint(folder / "tau" / "checkpoints" / "best.safetensors")
    _, before = load_checkpoint(folder / "main" / "checkpoints" / "best.safetensors")
    rows = [line for line in said if line.startswith("tau ")]
    assert len(rows) == 4
    assert f"tau       {facts['tau']:g}, the best of 3 by balanced_accuracy" in rows
    key = "head.project.weight"
    torch.testing.assert_close(groups["model"][key], rescaled(before["model"][key], facts["tau"]))
    log = (folder / "log.csv").read_text().splitlines()
    assert "valid_balanced_accuracy" in log[0]
    assert len(log) == 6
    others = [name for name in groups["model"] if name != key]
    assert all(torch.equal(groups["model"][name], before["model"][name]) for name in others)


def tau_loop(folder, start):
    plain = make(folder, select="loss")
    return TauLoop([0.0, 0.5, 1.0], plain.fabric, "tau", plain.spec, copy.deepcopy(start), [], plain.loss, plain.augment,
                   plain.train, plain.valid, folder)  # fmt: skip


def test_going_on_after_the_first_tau_ends_the_same(tmp_path, monkeypatch):
    start = build_classifier(ModelSpec(backbone="test_resnet", head={"name": "linear"}), FINDINGS, 32)
    whole = tau_loop(tmp_path / "whole", start)
    rows = whole.run()
    broken, close = tau_loop(tmp_path / "broken", start), TauLoop._close

    def dying(self, row):
        if row["epoch"] == 2:
            raise Killed
        close(self, row)

    monkeypatch.setattr(TauLoop, "_close", dying)
    with pytest.raises(Killed):
        broken.run()
    monkeypatch.undo()
    resumed = tau_loop(tmp_path / "broken", start)
    again = resumed.run(resume=True)
    assert [(row["tau"], row["valid_loss"]) for row in again] == [(row["tau"], row["valid_loss"]) for row in rows]
    expected, final = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(final[key], expected[key]) for key in expected)
    best = min(rows, key=lambda row: row["valid_loss"])["tau"]
    torch.testing.assert_close(final["head.project.weight"], rescaled(start.head.project.weight.detach(), best))


def test_choosing_needs_studies_of_one_finding(tmp_path):
    loop = make(tmp_path, select="balanced_accuracy")
    assert "valid_balanced_accuracy" in loop._validate()
    loop.valid.labels[:] = np.nan
    with pytest.raises(InputError, match="exactly one finding"):
        type(loop)(loop.fabric, "main", loop.spec, build_classifier(ModelSpec(backbone="test_resnet"), FINDINGS, 32), [],
                   loop.loss, loop.augment, loop.train, loop.valid, tmp_path)  # fmt: skip
