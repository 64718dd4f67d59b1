"""Samplers, mixing, optimisers and schedules in the loop: each resumes bit for bit, and each does what its name says."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from hilum.batches.mixing import Pairs
from hilum.batches.sampling import epoch_length
from hilum.errors import InputError
from hilum.recipe import Choice, parse_recipe
from hilum.training import loop as loops
from hilum.training.optim import OPTIMIZERS
from hilum.training.plan import check_recipe
from hilum.training.schedule import SCHEDULES, learning_rate
from tests.training.test_loop import Killed, make, weights

PAGE = Path(__file__).parents[2] / "docs/how-to/long-tail.md"
WAYS = {
    "class_aware": {"sampler": Choice("class_aware"), "optimizer": Choice("adam"), "schedule": Choice("constant")},
    "mixup": {
        "sampler": Choice("repeat_factor", {"threshold": 0.9}),
        "mix": Choice("mixup", {"alpha": 1.0}),
        "views": 1,
        "accumulate": 2,
        "optimizer": Choice("sgd", {"momentum": 0.0}),
    },
    "plateau": {
        "mix": Choice("balanced_mixup"),
        "views": 1,
        "optimizer": Choice("sgd"),
        "schedule": Choice("plateau", {"patience": 0}),
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_killed_in_the_second_epoch_ends_bit_for_bit_the_same(tmp_path, way, monkeypatch):
    options = {"epochs": 2, **WAYS[way]}
    whole = make(tmp_path / "whole", **options)
    expected_rows = whole.run()
    broken = make(tmp_path / "broken", **options)
    step, count = broken._step, iter(range(10_000))

    def dying(order, at):
        if next(count) == broken.steps + 1:
            raise Killed
        return step(order, at)

    monkeypatch.setattr(broken, "_step", dying)
    with pytest.raises(Killed):
        broken.run()
    resumed = make(tmp_path / "broken", **options)
    rows = resumed.run(resume=True)
    final, expected = weights(resumed), weights(whole)
    assert all(torch.equal(final[key], expected[key]) for key in expected)
    assert [row["lr"] for row in rows] == [row["lr"] for row in expected_rows]
    assert rows[-1]["valid_map"] == expected_rows[-1]["valid_map"]


def test_an_epoch_is_as_long_as_its_sampler_says(tmp_path):
    loop = make(tmp_path, sampler=Choice("over", {"cap": 3.0}), batch_size=8)
    assert epoch_length(loop.shares) > len(loop.train)
    assert loop.steps == epoch_length(loop.shares) // 8


def test_losses_go_on_counting_the_table(tmp_path):
    """A sampler changes what is seen, not what the loss knows of the findings' frequencies."""
    plain, aware = (make(tmp_path / name, sampler=Choice(name)) for name in ("shuffle", "class_aware"))
    assert torch.equal(plain.loss.positive_weight, aware.loss.positive_weight)


def test_mixed_parts_give_the_mixed_whole(tmp_path):
    """Accumulated or not, the loss of a mixed batch is the same: unknown entries, weights and all."""
    options = {"backbone": "test_vit", "augment": lambda images, generator: images.float() / 255, "views": 1,
               "mix": Choice("mixup", {"alpha": 1.0}), "clip": 0.0}  # fmt: skip
    losses = []
    for accumulate in (1, 4):
        loop = make(tmp_path / str(accumulate), accumulate=accumulate, **options)
        loop.wrapped.eval()
        loop.optimizer.step = lambda: None
        train = loop.train.with_pseudo(np.zeros_like(loop.train.labels), np.full_like(loop.train.labels, 0.3))
        loop.train, plain = train, train.batch
        train.batch = lambda rows, generator, plain=plain: plain(rows)  # the first view: parts draw their own
        losses.append(loop._step(np.arange(len(loop.train)), 0))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_plateau_falls_when_torchs_does():
    random = np.random.default_rng(0)
    values = (np.round(random.random(60), 1) * np.linspace(0.5, 1, 60)).tolist()
    for factor, patience in ((0.1, 2), (0.5, 0), (0.3, 5)):
        rate = SCHEDULES["plateau"](factor=factor, patience=patience)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max", factor=factor, patience=patience, threshold=0.0, eps=0.0
        )
        for epoch, value in enumerate(values):
            theirs.step(value)
            assert rate(0.5, 0.0, values[: epoch + 1]) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
    assert rate(0.5, 0.25, [1.0] + [0.0] * 100) == 0.25  # final_lr is the floor


def test_constant_stays_after_its_rise():
    rates = [
        learning_rate(step, 50, peak=2.0, warmup=0.1, final=0.01, schedule=SCHEDULES["constant"]())
        for step in range(50)
    ]
    assert rates[0] < rates[4] < 2.0
    assert set(rates[5:]) == {2.0}


def test_plateau_in_the_loop_follows_the_log(tmp_path, monkeypatch):
    values = iter([0.5, 0.4, 0.3, 0.6])
    loop = make(tmp_path, epochs=4, warmup=0.0, schedule=Choice("plateau", {"patience": 0, "factor": 0.5}))
    monkeypatch.setattr(loop, "_validate", lambda: {"valid_loss": 0.0, "valid_map": next(values), "valid_auroc": 0.5})
    assert [row["lr"] for row in loop.run()] == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4])


@pytest.mark.parametrize(
    ("name", "expected"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_optimisers_by_name_spare_vectors_from_decay(tmp_path, name, expected):
    loop = make(tmp_path, optimizer=Choice(name), weight_decay=5e-4)
    inner = getattr(loop.optimizer, "optimizer", loop.optimizer)
    assert type(inner) is expected
    for group in inner.param_groups:
        matrices = {parameter.ndim > 1 for parameter in group["params"]}
        assert matrices == {group["weight_decay"] == 5e-4}
    assert set(OPTIMIZERS) == {"adamw", "adam", "sgd"}


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"sampler": "class_awar"}, "id you mean 'class_aware'"),
        ({"sampler": {"name": "repeat_factor", "treshold": 1}}, "id you mean 'threshold'"),
        ({"sampler": {"name": "over", "cap": 0.5}}, "option 'cap' of over is 0.5"),
        ({"mix": "mixupp", "views": 1}, "id you mean 'mixup'"),
        ({"mix": {"name": "mixup", "alpha": 0.0}, "views": 1}, "alpha is 0"),
        ({"mix": "mixup"}, "Only single images are mixed"),
        ({"optimizer": "adamm"}, "id you mean 'adam"),
        ({"optimizer": {"name": "sgd", "momentum": 1.5}}, "momentum 1.5"),
        ({"schedule": "cosin"}, "id you mean 'cosine'"),
        ({"schedule": {"name": "plateau", "factor": 2.0}}, "factor 2.0"),
    ],
)
def test_likely_mistakes_are_told_before_data_is_opened(train, said):
    with pytest.raises(InputError, match=said):
        check_recipe(parse_recipe({"studies": "nowhere.parquet", "train": train}))


def test_choices_are_read_overridden_and_written_back():
    recipe = parse_recipe({"train": {"mix": {"name": "mixup", "alpha": 0.4}}}, ["train.sampler=balanced"])
    assert recipe.stages[0].train.mix == Choice("mixup", {"alpha": 0.4})
    assert recipe.stages[0].train.sampler == Choice("balanced")
    assert recipe.to_page()["stages"][0]["train"]["schedule"] == {"name": "cosine"}
    assert parse_recipe(recipe.to_page()) == recipe


@pytest.mark.parametrize(
    "page", re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL), ids=lambda page: page[:20]
)
def test_what_the_page_shows_is_a_recipe(page):
    check_recipe(parse_recipe(yaml.safe_load(page)))


class Numbered:
    """Cached features: the map of each image is its place, everywhere."""

    versions = 1

    def maps(self, places, version):
        return np.broadcast_to(places[:, None, None, None].astype(np.float16), (len(places), 4, 2, 2)).copy()


def test_cached_features_are_mixed_in_place_of_images(tmp_path, monkeypatch):
    loop = make(tmp_path, freeze=["backbone"], views=1)
    loop.train = loop.train.with_features(Numbered())
    seen = []
    monkeypatch.setattr(loops, "logits_of", lambda model, batch, images: seen.append(batch) or batch.labels.clone() * 0)
    samples, partners = np.array([0, 1]), np.array([2, 3])
    loop._loss(Pairs(samples, partners, np.array([0.75, 0.5], np.float32)), (0, 0, 0), 1.0)
    (own, _), (other, _) = (
        (loop.train.batch(rows, np.random.default_rng([0, 0, 0, 0, stream])).features, stream)
        for rows, stream in ((samples, 1), (partners, 4))
    )
    assert seen[0].images is None
    torch.testing.assert_close(seen[0].features[0], 0.75 * own[0].float() + 0.25 * other[0].float())
    torch.testing.assert_close(seen[0].features[1], 0.5 * own[1].float() + 0.5 * other[1].float())
