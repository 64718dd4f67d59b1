"""The loop: interrupted anywhere it ends where an undisturbed run ends; accumulation, schedule, freezing, averaging, stopping."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from lightning_fabric import Fabric

from hilum.batches.augment import standard
from hilum.batches.dataset import Studies
from hilum.errors import HilumError
from hilum.models.classifier import build_classifier
from hilum.recipe import ModelSpec, TrainSpec
from hilum.training import loop as loops
from hilum.training.checkpoint import load_checkpoint
from hilum.training.loop import StageLoop
from hilum.training.losses import build_loss
from hilum.training.schedule import learning_rate
from tests.small import FINDINGS, small_studies


class Killed(Exception):
    pass


def make(folder: Path, *, freeze=(), backbone="test_resnet", augment=None, **options) -> StageLoop:
    spec = TrainSpec(**{"epochs": 3, "batch_size": 8, "lr": 1e-3, "views": 2, "checkpoint_minutes": 0.0, **options})
    table, images = small_studies(patients=16)
    late = table["patient_id"].str.slice(1).cast(pl.Int32) >= 12
    train, valid = (Studies(table.filter(part), images, FINDINGS, views=spec.views) for part in (~late, late))
    torch.manual_seed(0)
    head = {"name": "ml_decoder", "dim": 16, "heads": 2, "hidden": 16}
    model = build_classifier(ModelSpec(backbone={"name": backbone}, head=head), FINDINGS, 32)
    counts, known = train.counts()
    loss = build_loss("weighted_asymmetric", torch.from_numpy(counts), torch.from_numpy(known))
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    return StageLoop(fabric, "main", spec, model, list(freeze), loss, augment or standard(), train, valid, folder)


def weights(loop: StageLoop) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in loop.model.state_dict().items()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    loop = make(tmp_path_factory.mktemp("whole"), ema=0.9, epochs=2)
    return loop.run(), weights(loop)


@pytest.mark.parametrize("kill_at", [0, 1, 2, 3, 5])
def test_killed_at_any_step_ends_bit_for_bit_the_same(tmp_path, undisturbed, kill_at, monkeypatch):
    broken = make(tmp_path, ema=0.9, epochs=2)
    step, count = broken._step, iter(range(100))

    def dying(order, at):
        if next(count) == kill_at:
            raise Killed
        return step(order, at)

    monkeypatch.setattr(broken, "_step", dying)
    try:
        broken.run()
    except Killed:
        torch.manual_seed(123)  # the world's generators may stand anywhere
        resumed = make(tmp_path, ema=0.9, epochs=2)
        rows = resumed.run(resume=True)
    else:
        pytest.fail("the run was to be killed")
    expected_rows, expected = undisturbed
    final = weights(resumed)
    assert all(torch.equal(final[key], expected[key]) for key in expected)
    timed = ("seconds", "studies_per_second")
    strip = lambda lines: [{key: value for key, value in row.items() if key not in timed} for row in lines]  # noqa: E731
    assert strip(rows) == strip(expected_rows)


def test_the_worlds_generators_are_left_alone(tmp_path):
    loop = make(tmp_path, epochs=1)
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002 (the global one is what must not be touched)
    before = (torch.get_rng_state(), np.random.get_state()[1].copy())  # noqa: NPY002
    loop.run()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_accumulated_parts_give_the_whole_batch(tmp_path):
    """With a backbone without batch statistics, 4 parts give the gradients of one batch, unknown labels and all."""
    whole, parts = (_first_gradients(tmp_path / str(count), count) for count in (1, 4))
    assert whole[0] == pytest.approx(parts[0], rel=1e-5)
    for name, gradient in whole[1].items():
        torch.testing.assert_close(gradient, parts[1][name], atol=1e-6, rtol=1e-3)


def _first_gradients(folder, accumulate):
    plain = {"backbone": "test_vit", "augment": lambda images, generator: images.float() / 255, "views": 9}
    loop = make(folder, accumulate=accumulate, epochs=1, clip=0.0, **plain)
    loop._to_train_mode = loop.wrapped.eval  # no dropout: its draws differ between one batch and four
    gradients = {}

    def instead_of_a_step():
        gradients.update({name: p.grad.clone() for name, p in loop.model.named_parameters() if p.grad is not None})

    loop.optimizer.step = instead_of_a_step
    loop._to_train_mode()
    return loop._step(np.arange(len(loop.train)), 0), gradients


def test_frozen_parts_do_not_move_not_even_batch_statistics(tmp_path):
    loop = make(tmp_path, freeze=["backbone"], epochs=1)
    before = weights(loop)
    loop.run()
    after = weights(loop)
    assert all(torch.equal(before[key], after[key]) for key in before if key.startswith("backbone"))
    assert any(not torch.equal(before[key], after[key]) for key in before if key.startswith("head"))


def test_learning_rate_rises_then_falls_to_the_stated_end():
    total = 200
    rates = [learning_rate(step, total, peak=1e-3, warmup=0.1, final=0.02) for step in range(total)]
    assert rates[0] == pytest.approx(1e-3 / 21)
    assert max(rates) == rates[20] == 1e-3
    assert rates[-1] == pytest.approx(2e-5, rel=1e-12)
    assert all(a < b for a, b in pairwise(rates[:21]))
    assert all(a > b for a, b in pairwise(rates[20:]))


def test_the_last_learning_rate_of_a_run_is_the_stated_one(tmp_path):
    loop = make(tmp_path, epochs=2, final_lr=0.03)
    rows = loop.run()
    assert rows[-1]["lr"] == pytest.approx(0.03 * 1e-3, rel=1e-12)
    assert loop.optimizer.param_groups[0]["lr"] == rows[-1]["lr"]


def test_stops_early_and_keeps_the_best(tmp_path, monkeypatch):
    values = iter([0.3, 0.5, 0.4, 0.45, 0.2, 0.9])
    loop = make(tmp_path, epochs=6, patience=2)
    monkeypatch.setattr(loop, "_validate", lambda: {"valid_loss": 0.0, "valid_map": next(values), "valid_auroc": 0.5})
    rows = loop.run()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    facts, groups = load_checkpoint(tmp_path / "checkpoints" / "best.safetensors")
    assert facts["epoch"] == 2
    assert all(torch.equal(value, loop.model.state_dict()[key]) for key, value in groups["model"].items())


def test_the_average_follows_the_weights(tmp_path):
    loop = make(tmp_path, epochs=1, ema=0.5)
    before = weights(loop)
    loop._to_train_mode()
    loop._step(np.arange(len(loop.train)), 0)
    now, average = loop.model.state_dict(), loop.average.model.state_dict()
    key = "head.bias"
    decay = min(0.5, 1 / 10)
    torch.testing.assert_close(average[key], decay * before[key] + (1 - decay) * now[key])
    statistics = next(key for key in now if key.endswith("running_mean"))
    assert torch.equal(average[statistics], now[statistics])


def test_learns_what_is_there(tmp_path):
    rows = make(tmp_path, epochs=12, batch_size=8, lr=2e-3, checkpoint_minutes=10.0).run()
    assert rows[-1]["train_loss"] < 0.6 * rows[0]["train_loss"]
    assert max(row["valid_auroc"] for row in rows) > 0.75


def test_a_loss_that_breaks_stops_with_advice(tmp_path, monkeypatch):
    loop = make(tmp_path)
    monkeypatch.setattr(loop, "_loss", lambda *a: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(HilumError, match=r"loss became nan.*Lower train.lr"):
        loop.run()


def test_a_checkpoint_is_data_alone(tmp_path):
    loop = make(tmp_path, epochs=1)
    loop.run()
    facts, groups = load_checkpoint(tmp_path / "checkpoints" / "last.safetensors")
    assert set(groups) == {"model", "optimizer"}
    assert json.loads(json.dumps(facts)) == facts
    assert facts["finished"]
    assert loops.number_from(0, 1) != loops.number_from(1, 0)
