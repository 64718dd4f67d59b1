"""Test-time augmentation: what is averaged and what it depends on; what the tables and bundles say of it."""

import shutil

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from typer.testing import CliRunner

from hilum.batches.dataset import Studies
from hilum.bundle import read_bundle, replace_operating_points
from hilum.cli import app
from hilum.errors import InputError
from hilum.inference.averaging import averaged
from hilum.inference.calibrate import calibrate
from hilum.inference.predict import Model, load
from hilum.inference.torch_engine import torch_logits
from hilum.inference.tta import TTA, chosen_by, transforms, tta_logits, used
from hilum.models.classifier import build_classifier
from hilum.recipe import ModelSpec, PredictSpec, parse_recipe
from hilum.tables import read_predictions, read_studies
from hilum.training.features import StageFeatures
from hilum.training.run import train
from tests.small import FINDINGS, InMemory, small_studies, write_small_studies
from tests.training.test_features import SPEC, STILL, classifier, parts, stage

EVERY = ["flip", "rotate:5", "shift", "zoom:0.1", "random:3"]


@pytest.fixture(scope="module")
def small():
    return small_studies(patients=12)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    spec = ModelSpec()
    spec = ModelSpec(backbone=type(spec.backbone)("test_resnet"))
    built = build_classifier(spec, list(FINDINGS), 32).eval()
    with torch.no_grad():
        built.head.apply(lambda part: part.weight.mul_(20) if isinstance(part, torch.nn.Linear) else None)
    return built


def logits(model, table, images, *tta: str, space: str = "probability", **options) -> dict[str, np.ndarray]:
    studies = Studies(table, images, list(FINDINGS))
    return dict(zip(studies.ids, tta_logits(model, studies, PredictSpec(list(tta), space), **options)))


def flipped(images: InMemory) -> InMemory:
    return InMemory({name: images.pixels[place, :, ::-1] for name, place in images.place.items()})


def test_without_transforms_nothing_changes(model, small):
    studies = Studies(*small, list(FINDINGS))
    plain = torch_logits(model, studies)
    assert np.array_equal(tta_logits(model, studies, PredictSpec()), plain)
    assert np.array_equal(tta_logits(model, studies, PredictSpec(["identity"])), plain)


@pytest.mark.parametrize("space", ["probability", "logit"])
def test_flip_is_the_mean_with_flipped_pixels(model, small, space):
    table, images = small
    own, other = logits(model, table, images), logits(model, table, flipped(images))
    both = logits(model, table, images, "flip", space=space)
    for name, value in both.items():
        if space == "logit":
            np.testing.assert_allclose(value, (own[name] + other[name]) / 2, rtol=1e-4, atol=1e-5)
        else:
            chances = [1 / (1 + np.exp(-each.astype(np.float64))) for each in (own[name], other[name], value)]
            np.testing.assert_allclose(chances[2], (chances[0] + chances[1]) / 2, atol=1e-6)
    assert not all(np.allclose(own[name], other[name], atol=1e-3) for name in own), "the flip changes something"


def test_every_transform_is_of_each_image_alone(model, small):
    """Whatever the batch, the order of studies, and the names of the images."""
    table, images = small
    once = logits(model, table, images, *EVERY)
    for again in (
        logits(model, table, images, *EVERY, batch_size=3),
        logits(model, table.sample(fraction=1, shuffle=True, seed=3), images, *EVERY, batch_size=5),
    ):
        assert again.keys() == once.keys()
        for name, value in once.items():
            np.testing.assert_allclose(again[name], value, rtol=1e-4, atol=1e-4)
    pixels = torch.from_numpy(images.pixels[:6, None])
    for transform in transforms(EVERY).values():
        together = transform(pixels, 0)
        assert together.shape == pixels.shape
        assert 0 <= together.min() <= together.max() <= 1
        for number in range(6):
            torch.testing.assert_close(transform(pixels[number : number + 1], 0)[0], together[number])


def test_random_draws_follow_from_seed_number_and_pixels():
    pixels = torch.randint(0, 255, (2, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first, second = (transforms(["random:2"])[f"random:{number}"] for number in (1, 2))
    state = torch.get_rng_state()
    assert torch.equal(first(pixels, 0), first(pixels, 0))
    assert torch.equal(torch.get_rng_state(), state), "the world's generator is left alone"
    for other in (first(pixels, 1), second(pixels, 0)):
        assert not torch.allclose(first(pixels, 0), other, atol=1e-3)


def test_moves_go_where_they_say():
    pixels = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    pixels[..., 12:20, 12:20] = 255
    made = {name: transform(pixels, 0) for name, transform in transforms(["shift:0.25", "zoom:0.5", "rotate"]).items()}
    assert torch.equal(made["shift:right:0.25"], made["identity"].roll(8, -1))
    assert torch.equal(made["shift:up:0.25"], made["identity"].roll(-8, -2))
    assert made["zoom:+0.5"].sum() == pytest.approx(1.5**2 * 64, rel=0.1)
    assert made["zoom:-0.5"].sum() == pytest.approx(0.5**2 * 64, rel=0.1)
    assert not torch.equal(made["rotate:+5"], made["rotate:-5"])


def test_the_mean_of_extreme_probabilities_is_a_number():
    far = [np.full((1, 2), 200, np.float32), np.array([[-200, 200]], np.float32)]
    assert averaged(far, "probability")[0] == pytest.approx([0.0, 200 + 0.0], abs=1e-3)
    assert averaged(far, "logit")[0] == pytest.approx([0.0, 200])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_cached_features_under_transforms_are_those_that_would_be_computed(small, tmp_path, monkeypatch, precision):
    fabric, spec = Fabric(accelerator="cpu", devices=1, precision=precision), PredictSpec(EVERY)
    frozen, (train_part, valid) = classifier().eval(), parts(small)
    features = StageFeatures(stage(STILL), frozen, fabric, train_part, valid, tmp_path, SPEC, spec)
    features.compute()
    cached = features.studies()[1]
    assert [*cached.changed] == [*transforms(EVERY)][1:]
    expected = {name: tta_logits(frozen, valid, PredictSpec([name]), autocast=fabric.autocast) for name in EVERY}
    monkeypatch.setattr(frozen, "encode", None)  # is not called again
    for name, value in expected.items():
        found = tta_logits(frozen, cached, PredictSpec([name]), autocast=fabric.autocast)
        np.testing.assert_allclose(found, value, atol=5e-3 if precision == "32-true" else 2e-2)


def test_pixels_move_alike_in_every_precision(model, small):
    """Where a rotated pixel comes from is not computed with eight bits."""
    seen: list[torch.Tensor] = []
    studies = Studies(*small, list(FINDINGS))
    hook = model.backbone.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    for autocast in (None, lambda: torch.autocast("cpu", torch.bfloat16)):
        tta_logits(model, studies, PredictSpec(["rotate:5"]), autocast=autocast)
    hook.remove()
    half = len(seen) // 2
    for one, other in zip(seen[:half], seen[half:]):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("word", "told"),
    [("flop", "did you mean 'flip'"), ("rotate:500", "above 0 and up to 45"), ("rotate:x", "out of range"),
     ("random:0", "whole number"), ("random:1.5", "whole number"), ("flip:2", "takes no number")],
)  # fmt: skip
def test_wrong_words_are_told(word, told):
    with pytest.raises(InputError, match=r"(?i)" + told):
        transforms([word])
    with pytest.raises(InputError, match=r"(?i)" + told):
        chosen_by({}, [word])


def test_a_caller_overrules_the_bundle():
    default = {"tta": ["flip"], "space": "logit", "seed": 3}
    assert chosen_by(default) == PredictSpec(["flip"], "logit", 3)
    assert chosen_by({}) == PredictSpec()
    assert chosen_by(default, "none").tta == chosen_by(default, []).tta == []
    assert chosen_by(default, ["rotate:5,zoom", "flip"], "probability", 1) == PredictSpec(
        ["rotate:5", "zoom", "flip"], "probability", 1
    )
    with pytest.raises(InputError, match="beside others"):
        chosen_by(default, ["none", "flip"])
    with pytest.raises(InputError, match="space"):
        chosen_by(default, None, "odds")
    assert used(chosen_by(default, "none")) == {}
    assert used(PredictSpec(["random:2"], seed=4)) == {
        "transforms": ["identity", "random:1", "random:2"], "space": "probability", "seed": 4,
    }  # fmt: skip


def test_a_recipe_says_it_in_a_list_or_a_word():
    for page in ({"predict": {"tta": "flip, zoom"}}, {"predict": {"tta": ["flip", "zoom"]}}):
        assert parse_recipe(page).predict.tta == ["flip", "zoom"]
    assert parse_recipe({}, ["predict.tta=none"]) == parse_recipe({}, ["predict.tta=null"]) == parse_recipe({})
    with pytest.raises(InputError, match="did you mean 'tta'"):
        parse_recipe({}, ["predict.ttta=flip"])


def test_every_transform_is_chosen_by_name(model, small):
    table, images = small
    for name in TTA:
        assert np.isfinite(np.stack(list(logits(model, table, images, name).values()))).all()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flipped")
    write_small_studies(folder, patients=24)
    quick = [f"studies={folder / 'studies.parquet'}", f"cache.folder={folder / 'cache'}", "findings=null", "cache.size=32",
             "train.epochs=2", "train.batch_size=16", "model.backbone.name=test_resnet", "train.ema=0", "train.lr=0.01",
             "split.valid=0.25", "split.test=0.25", "predict.tta=[flip]", "predict.space=logit",
             "train.precision=32-true"]  # as predictions are: in bf16 a log is its rounding away from them  # fmt: skip
    return train("demo", quick, run=folder / "run")


def test_a_run_predicts_as_its_recipe_says_and_its_bundle_too(run, tmp_path):
    said = read_predictions(run / "predictions_test.parquet")
    assert said.tta == {"transforms": ["identity", "flip"], "space": "logit"}
    model: Model = load(run / "bundle")
    assert model.bundle.predict == {"tta": ["flip"], "space": "logit", "seed": 0}
    studies = read_studies(run / "studies.parquet")
    held_out, cache = studies.filter(split="test"), run.parent / "cache"
    for tta, like in ((None, True), ("flip", True), ("none", False)):
        frame = model.predict(held_out, cache=cache, tta=tta).join(said.table, on="study_id", suffix="_then")
        gap = max(float((frame[name] - frame[f"{name}_then"]).abs().max()) for name in FINDINGS)
        assert (gap < 1e-5) == like, tta
    assert model.tta == {}


def test_the_last_epochs_log_is_of_the_averaged_predictions(run):
    """Validation in the loop, the thresholds and the predictions are of one kind."""
    from hilum.evaluation.metrics import average_precision
    from hilum.tables import labels_of
    from hilum.training.checkpoint import load_facts

    said = read_predictions(run / "predictions_valid.parquet").table
    truth = labels_of(read_studies(run / "studies.parquet"), list(FINDINGS))
    rows = [truth.ids.index(name) for name in said["study_id"]]
    ap = average_precision(truth.values[rows], said.select(FINDINGS).to_numpy())
    assert load_facts(run / "main" / "checkpoints" / "best.safetensors")["valid_map"] == pytest.approx(
        np.nanmean(ap), abs=1e-5
    )


def test_calibration_is_of_what_the_bundle_predicts(run, tmp_path):
    maps = []
    for name, default in (("flipped", {"tta": ["flip"]}), ("plain", {})):
        shutil.copytree(run / "bundle", tmp_path / name)
        bundle = read_bundle(tmp_path / name)
        bundle.predict = default
        replace_operating_points(bundle, bundle.operating_points)
        done = calibrate(tmp_path / name, run / "studies.parquet", cache=run.parent / "cache", split=None)
        maps.append([(point.slope, point.intercept) for point in done.points])
        assert read_bundle(tmp_path / name).predict == default
    assert maps[0] != maps[1]


def test_the_verb_averages_and_says_so(run, tmp_path):
    words = ["predict", str(run / "bundle"), str(run / "studies.parquet"), "--cache", str(run.parent / "cache")]
    out = tmp_path / "p.parquet"
    done = CliRunner().invoke(app, [*words, "-o", str(out), "--tta", "flip,random:2", "--tta-space", "probability"])
    assert done.exit_code == 0, done.output
    assert "mean probability of: identity, flip, random:1, random:2" in done.output
    assert read_predictions(out).tta["transforms"] == ["identity", "flip", "random:1", "random:2"]
    assert read_bundle(run / "bundle").predict["tta"] == ["flip"], "the bundle's own choice stays"
    done = CliRunner().invoke(app, [*words, "-o", str(out), "--tta", "none"])
    assert "mean" not in done.output
    assert read_predictions(out).tta == {}
    failed = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "no.parquet"), "--tta", "flop"])
    assert isinstance(failed.exception, InputError)
    assert failed.exception.exit_code == 2
    assert "did you mean 'flip'" in str(failed.exception).lower()
    assert not (tmp_path / "no.parquet").exists()
