"""Cached features: what the backbone makes of each image, rounded once; another key for another input; whole after a kill."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from lightning_fabric import Fabric

from hilum.batches.augment import none
from hilum.batches.dataset import Studies
from hilum.data import features as held
from hilum.errors import InputError
from hilum.models.classifier import Classifier, build_classifier
from hilum.pixels.spec import PixelSpec
from hilum.recipe import Choice, ModelSpec, PredictSpec, Stage, TrainSpec
from hilum.training import features as building
from hilum.training.features import StageFeatures, augmented_versions, to_half
from hilum.training.loop import StageLoop
from hilum.training.losses import build_loss
from tests.small import FINDINGS, InMemory, small_studies

SPEC = PixelSpec(32)
PLAIN = Choice("none")
STILL = Choice("standard", {"noise": 0.0})
ROUNDING = {"rtol": 2.0**-10, "atol": 2.0**-24}  # one step of float16: half of it rounding, half the order of sums


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def small():
    return small_studies(patients=12)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(held, "_SHARD_BYTES", 3_000)
    monkeypatch.setattr(building, "_IMAGES", 8)


def classifier(seed: int = 0) -> Classifier:
    """A small network whose batch-norm statistics are those of noise, not the ones it starts with."""
    torch.manual_seed(seed)
    model = build_classifier(ModelSpec(backbone={"name": "test_resnet"}), FINDINGS, SPEC.size)
    with torch.no_grad():
        for _ in range(20):
            model.backbone.train()(torch.rand(16, 1, SPEC.size, SPEC.size))
    return model.eval()


def parts(small, views: int = 2, level: str = "study") -> tuple[Studies, Studies]:
    table, images = small
    late = table["patient_id"].str.slice(1).cast(pl.Int32) >= 9
    train = Studies(table.filter(~late), images, FINDINGS, views=views, level=level)
    return train, Studies(table.filter(late), images, FINDINGS, views=views)


def stage(augment: Choice = STILL, **options) -> Stage:
    spec = TrainSpec(**{"epochs": 2, "batch_size": 8, "lr": 1e-3, "views": 2, "checkpoint_minutes": 0.0, **options})
    return Stage(freeze=["backbone"], augment=augment, train=spec)


def made(
    folder: Path, small, *, model=None, spec=SPEC, precision="32-true", level="study", predict=None, **options
) -> StageFeatures:
    fabric, studies = Fabric(accelerator="cpu", devices=1, precision=precision), parts(small, level=level)
    return StageFeatures(stage(**options), model or classifier(), fabric, *studies, folder, spec, predict)


def test_cached_features_are_what_the_backbone_makes_rounded_once(small, tmp_path):
    model, features = classifier(), made(tmp_path, small)
    features.compute()
    for studies, cached in zip(parts(small), features.studies()):
        rng = [np.random.default_rng(5) for _ in range(2)]
        alone, batch = (one.batch(np.arange(len(one)), None) for one in (studies, cached))
        assert batch.images is None
        assert batch.features.dtype == torch.float16
        with torch.no_grad():
            expected = model.encode(alone.images[alone.present].float() / 255)
        torch.testing.assert_close(batch.features[batch.present].float(), expected, **ROUNDING)
        once = (batch.features[batch.present] == expected.half()).float().mean()
        assert once > 0.99, "all but what the order of sums moves over a boundary"
        assert not batch.features[~batch.present].any()
        drawn = [one.batch(np.arange(len(one)), generator) for one, generator in zip((studies, cached), rng)]
        assert torch.equal(drawn[0].view, drawn[1].view), "the views that are drawn do not depend on the cache"


def test_every_image_of_a_study_with_more_views_than_the_limit_is_there(small, tmp_path):
    model, features = classifier(), made(tmp_path, small, augment=PLAIN)
    features.compute()
    train, cached = parts(small)[0], features.studies()[0]
    assert train.crowded
    many = np.array([index for index in range(len(train)) if len(train.places(index)) > train.views])
    for seed in range(4):
        shown, read = (one.batch(many, np.random.default_rng(seed)) for one in (train, cached))
        with torch.no_grad():
            expected = model.encode(shown.images[shown.present].float() / 255)
        torch.testing.assert_close(read.features[read.present].float(), expected, **ROUNDING)


def test_augmented_versions_differ_and_the_views_of_a_study_move_alike(small, tmp_path):
    table, images = small
    twins = [name for name in images.place if name.startswith("p0s0")][:2]
    pixels = {name: images.pixels[images.place[twins[0] if name in twins else name]] for name in images.place}
    features = made(tmp_path, (table, InMemory(pixels)), feature_versions=2)
    assert len(features.versions) == 3
    features.compute()
    train = features.studies()[0]
    places = np.array([train.image_ids.index(name) for name in twins])
    seen = [train.features.maps(places, np.full(2, version)) for version in range(3)]
    for maps in seen:
        np.testing.assert_allclose(maps[0], maps[1], **ROUNDING)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(seen[one].astype(float) - seen[other]).max() > 0.01
    sizes = {
        tuple(train.batch(np.arange(9), np.random.default_rng(s)).features[0, 0, :8, 0, 0].tolist()) for s in range(20)
    }
    assert len(sizes) >= 3, "every version is drawn"


def test_a_map_depends_on_its_own_sample_alone(small, tmp_path):
    """The same studies in another order, and fewer of them, have the same features."""
    table, images = small
    whole = made(tmp_path / "whole", small, feature_versions=1)
    kept = table.filter(pl.col("study_id").str.ends_with("s0")).sample(fraction=1, shuffle=True, seed=1)
    part = made(tmp_path / "part", (kept, images), feature_versions=1)
    for features in (whole, part):
        features.compute()
    own, other = (features.studies()[0] for features in (part, whole))
    there = np.array([other.image_ids.index(name) for name in own.image_ids])
    for version in (0, 1):
        one = own.features.maps(np.arange(len(there)), np.full(len(there), version))
        np.testing.assert_allclose(one, other.features.maps(there, np.full(len(there), version)), **ROUNDING)


@pytest.mark.parametrize(
    ("change", "plain", "augmented"),
    [
        ({}, True, True),
        ({"model": classifier(1)}, False, False),
        ({"spec": PixelSpec(32, tone="equalize_hist")}, False, False),
        ({"precision": "bf16-mixed"}, False, False),
        ({"augment": Choice("standard", {"noise": 0.0, "rotate": 8.0})}, True, False),
        ({"augment": Choice("standard", {"noise": 0.0, "rotate": 7.0})}, True, True),  # a default that is said
        ({"seed": 1}, True, False),
    ],
)
def test_what_decides_the_features_decides_the_key(small, tmp_path, change, plain, augmented):
    one, other = (made(tmp_path, small, feature_versions=1, **options) for options in ({}, change))
    same = [a.cache.folder == b.cache.folder for a, b in zip(one.versions, other.versions)]
    assert same == [plain, augmented]


@pytest.mark.parametrize("kind", ["running_var", "weight", "num_batches_tracked", "mean"])
def test_every_number_that_the_backbone_computes_with_is_in_the_key(small, tmp_path, kind):
    changed = classifier()
    held_there = dict([*changed.backbone.named_parameters(), *changed.backbone.named_buffers()])
    value = next(value for name, value in held_there.items() if name.endswith(kind))
    with torch.no_grad():
        value.view(-1)[0] += 1
    assert (
        made(tmp_path, small).versions[0].cache.folder != made(tmp_path, small, model=changed).versions[0].cache.folder
    )


def test_another_picture_is_computed_anew_and_with_it_what_is_drawn_for_its_study(small, tmp_path):
    table, images = small
    made(tmp_path, small, feature_versions=1).compute()
    name = table["image_id"][0]
    pixels = {one: images.pixels[place].copy() for one, place in images.place.items()}
    pixels[name][0, 0] ^= 1
    features = made(tmp_path, (table, InMemory(pixels)), feature_versions=1)
    views = table.filter(pl.col("study_id") == table["study_id"][0]).height
    assert views > 1
    assert [version.missing for version in features.versions] == [1, views]
    assert features.compute() == 1 + views
    assert made(tmp_path, (table, InMemory(pixels)), feature_versions=1).bytes_missing == 0


def stop_after(batches: int, error: type[BaseException]):
    def progress(items, *, total, label, unit="images"):
        for number, item in enumerate(items):
            if number == batches:
                raise error
            yield item

    return progress


@pytest.mark.parametrize(("error", "kept"), [(Killed, False), (KeyboardInterrupt, True)])
def test_an_interrupted_build_goes_on_and_ends_bit_for_bit_the_same(small, tmp_path, error, kept):
    whole = made(tmp_path / "whole", small, feature_versions=1)
    total = whole.compute()
    broken = made(tmp_path / "broken", small, feature_versions=1)
    with pytest.raises(error):
        broken.compute(stop_after(5, error))
    resumed = made(tmp_path / "broken", small, feature_versions=1)
    folder = resumed.versions[0].cache.folder
    done = len(resumed.versions[0].cache.held)
    assert 0 < done < whole.versions[0].cache.held.height
    (folder / ".shard-00001.npy.left.npy").write_bytes(b"half a shard")
    np.save(folder / "shard-00077.npy", np.zeros((3, 2), np.float16))  # killed before its list was written
    assert resumed.compute() == total - done
    assert not list(folder.glob(".shard*"))
    for one, other in zip(whole.studies(), resumed.studies()):
        for version in range(one.features.versions):
            places = np.arange(len(one.image_ids))
            maps = [side.features.maps(places, np.full(len(places), version)) for side in (one, other)]
            assert (maps[0] == maps[1]).all()
    assert made(tmp_path / "broken", small, feature_versions=1).compute() == 0


def test_a_damaged_shard_is_found_and_only_its_features_computed_anew(small, tmp_path):
    features = made(tmp_path, small, augment=PLAIN)
    features.compute()
    shards = sorted(features.versions[0].cache.folder.glob("shard-*.npy"))
    assert len(shards) > 2
    sizes = [np.load(shard).shape[0] for shard in shards]
    content = bytearray(shards[1].read_bytes())
    content[-5] ^= 1
    shards[1].write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"damaged.*shard-00001\.npy.*[Dd]elete"):
        made(tmp_path, small, augment=PLAIN).compute()
    shards[1].unlink()  # what the advice says
    assert made(tmp_path, small, augment=PLAIN).compute() == sizes[1]
    shards[0].write_bytes(shards[0].read_bytes()[:-9])  # cut off: seen without reading
    assert made(tmp_path, small, augment=PLAIN).compute() == sizes[0]
    assert made(tmp_path, small, augment=PLAIN).compute() == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -70_000.0])
def test_a_feature_out_of_range_is_refused(value):
    assert to_half(torch.tensor([65_504.0, -1.0]))[0] == 65_504
    with pytest.raises(InputError, match="feature_cache=off"):
        to_half(torch.tensor([1.0, value]))


def test_unreadable_images_have_no_features_and_are_asked_for_none(small, tmp_path):
    table, images = small
    gone = table["study_id"][0]
    lost = {table.filter(pl.col("study_id") != gone)["image_id"][0]}
    kept = {n: images.pixels[i] for n, i in images.place.items() if not n.startswith(gone + "i") and n not in lost}
    features = made(tmp_path, (table, InMemory(kept)), augment=PLAIN)
    assert features.compute() == len(kept)
    train, valid = features.studies()
    assert gone not in train.ids
    assert {*train.image_ids, *valid.image_ids} == set(kept)
    assert sum(batch.features.shape[0] for one in (train, valid) for batch in one.in_order(5)) == len(train) + len(
        valid
    )


def test_single_images_are_samples_of_their_own(small, tmp_path):
    features = made(tmp_path, small, level="image", feature_versions=1)
    features.compute()
    train = features.studies()[0]
    assert train.batch(np.arange(4)).features.shape[:2] == (4, 1)
    studies = made(tmp_path, small, feature_versions=1)
    assert [version.missing for version in studies.versions] == [0, len(train.image_ids)]


def test_as_many_versions_as_the_recipe_says():
    assert augmented_versions(stage(PLAIN, feature_versions=3)) == 0
    assert augmented_versions(stage(STILL, feature_versions=7)) == 7
    assert augmented_versions(stage(STILL, epochs=20)) == 4
    assert augmented_versions(stage(STILL, epochs=2)) == 2


# -- training on them ---------------------------------------------------------------------------------------------------


def loop(folder: Path, studies: tuple[Studies, Studies], model: Classifier, **options) -> StageLoop:
    torch.manual_seed(0)
    train, valid = studies
    counts, known = train.counts()
    loss = build_loss("weighted_asymmetric", torch.from_numpy(counts), torch.from_numpy(known))
    fabric = Fabric(accelerator="cpu", devices=1, precision=options.pop("precision", "32-true"))
    return StageLoop(fabric, "two", stage(**options).train, model, ["backbone"], loss, none(), train, valid, folder)


def weights(model: Classifier) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def test_training_on_cached_features_is_training_on_recomputed_ones(small, tmp_path):
    """Without augmentation the two differ by the rounding of float16, 2^-11 of a feature: less than 0.001 in a logit, where
    training moved the logits by more than 0.5 and they differ between studies by more than 0.03."""
    features = made(tmp_path / "features", small, augment=PLAIN)
    features.compute()
    sides = parts(small), features.studies()
    loops = [loop(tmp_path / str(side), studies, classifier(), lr=1e-2, epochs=4) for side, studies in enumerate(sides)]
    rows = [one.run() for one in loops]
    valid = sides[0][1].batch(np.arange(len(sides[0][1])))
    facts = (valid.images.float() / 255, valid.present, valid.view)
    with torch.no_grad():
        start, *ends = (one.eval()(*facts) for one in (classifier(), loops[0].model, loops[1].model))
    assert (ends[0] - start).abs().max() > 0.5
    assert ends[0].std(0).min() > 0.03
    torch.testing.assert_close(ends[1], ends[0], atol=1e-3, rtol=0)
    assert rows[1][-1]["valid_loss"] == pytest.approx(rows[0][-1]["valid_loss"], abs=1e-3)


def test_the_backbone_is_bit_for_bit_what_it_was(small, tmp_path):
    features = made(tmp_path / "features", small, feature_versions=2)
    features.compute()
    one = loop(tmp_path, features.studies(), classifier(), ema=0.9)
    before = weights(one.model)
    one.run()
    for after in (weights(one.model), one.average.model.state_dict()):
        assert all(torch.equal(before[key], after[key]) for key in before if key.startswith("backbone."))
    assert any(not torch.equal(before[key], weights(one.model)[key]) for key in before if key.startswith("head."))


@pytest.mark.parametrize("kill_at", [1, 3])
def test_killed_in_an_epoch_ends_bit_for_bit_the_same(small, tmp_path, kill_at, monkeypatch):
    features = made(tmp_path / "features", small, feature_versions=2)
    features.compute()
    whole = loop(tmp_path / "whole", features.studies(), classifier(), ema=0.9)
    whole.run()
    broken, count = loop(tmp_path / "broken", features.studies(), classifier(), ema=0.9), iter(range(100))
    step = broken._step

    def dying(order, at):
        if next(count) == kill_at:
            raise Killed
        return step(order, at)

    monkeypatch.setattr(broken, "_step", dying)
    with pytest.raises(Killed):
        broken.run()
    torch.manual_seed(99)
    again = made(tmp_path / "features", small, feature_versions=2)
    assert again.compute() == 0
    resumed = loop(tmp_path / "broken", again.studies(), classifier(), ema=0.9)
    resumed.run(resume=True)
    expected = weights(whole.model)
    assert all(torch.equal(value, expected[key]) for key, value in weights(resumed.model).items())


def test_epochs_on_cached_features_never_call_the_backbone(small, tmp_path, monkeypatch):
    """Though each of them ends with predictions under test-time transforms."""
    model, predict = classifier(), PredictSpec(["flip", "rotate"])
    features = made(tmp_path / "features", small, model=model, predict=predict)
    features.compute()
    cached = loop(tmp_path / "cached", features.studies(), model)
    cached.predict = predict
    monkeypatch.setattr(model.backbone, "forward", None)
    assert np.isfinite([row["valid_loss"] for row in cached.run()]).all()


@pytest.mark.parametrize(
    ("tta", "seed", "same"),
    [("flip", 1, [True]), ("rotate:5", 0, [False, False]), ("random:1", 0, [False]), ("none", 0, [])],
)
def test_each_transform_has_features_of_its_own(small, tmp_path, tta, seed, same):
    """Whatever the seed, unless it draws; those of the images as they are and augmented stay where they were."""
    one = made(tmp_path, small, predict=PredictSpec(["flip"]))
    other = made(tmp_path, small, predict=PredictSpec([] if tta == "none" else [tta], seed=seed))
    folders = [version.cache.folder for version in other.transformed.values()]
    assert [folder == one.transformed["flip"].cache.folder for folder in folders] == same
    again = made(tmp_path, small, predict=PredictSpec(["random:1"], seed=1)).transformed["random:1"]
    assert again.cache.folder not in folders
    for own, theirs in zip([one.plain, *one.augmented], [other.plain, *other.augmented], strict=True):
        assert own.cache.folder == theirs.cache.folder


def test_mixed_precision_reads_features_too(small, tmp_path):
    features = made(tmp_path / "features", small, augment=PLAIN, precision="bf16-mixed")
    features.compute()
    rows = loop(tmp_path, features.studies(), classifier(), precision="bf16-mixed", epochs=1).run()
    assert np.isfinite(rows[0]["valid_loss"])
