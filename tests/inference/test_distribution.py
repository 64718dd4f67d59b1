"""The gate: chests pass, what is no chest does not, and the statistics live through being written down."""

import json

import cv2
import numpy as np
import pytest

from hilum.batches.dataset import Studies
from hilum.errors import InputError
from hilum.inference.distribution import FILE, learn_distribution, read_distribution, thumbnails
from hilum.inference.gate import measure_distribution
from hilum.models.classifier import build_classifier
from hilum.recipe import Choice, ModelSpec
from hilum.sources import import_studies
from hilum.tables import read_studies
from tests.inference.odd_pictures import ODD, hand
from tests.small import InMemory

SIZE = 64


@pytest.fixture(scope="module")
def chests(tmp_path_factory) -> dict[str, np.ndarray]:
    """Images (N, S, S) of about 150 phantom studies: of one half of the patients, and frontal and lateral of the other."""
    path, _ = import_studies(
        "phantom", None, tmp_path_factory.mktemp("phantom"), studies=150, size=SIZE, seed=3, workers=1
    )
    table = read_studies(path)
    images = np.stack([cv2.imread(path, cv2.IMREAD_GRAYSCALE) for path in table["path"]])
    half = sorted(set(table["patient_id"]))[::2]
    train, lateral = table["patient_id"].is_in(half).to_numpy(), (table["view"] == "LATERAL").to_numpy()
    return {"train": images[train], "frontal": images[~train & ~lateral], "lateral": images[~train & lateral]}


def features(images: np.ndarray) -> np.ndarray:
    """What stands for a model here (N, 16, 4, 4): responses to small random filters, seen in a 4 x 4 grid."""
    kernels = np.random.default_rng(0).normal(size=(16, 5, 5))
    maps = [
        [np.abs(cv2.filter2D(image.astype(np.float32) / 255, -1, kernel)) for kernel in kernels] for image in images
    ]
    return np.asarray(maps).reshape(len(images), 16, 4, SIZE // 4, 4, SIZE // 4).mean(axis=(3, 5))


@pytest.fixture(scope="module")
def gate(chests):
    new = np.concatenate([chests["frontal"], chests["lateral"]])
    sides = [(thumbnails(images), features(images).mean(axis=(2, 3))) for images in (chests["train"], new)]
    return learn_distribution(*sides, quantile=0.95)


def judged(gate, *images: np.ndarray):
    pixels = np.stack(images)
    return gate.judge(pixels, features(pixels))


def test_chests_of_other_patients_pass(gate, chests):
    """5 % of them are refused, as the limits say, and neither frontal nor lateral ones are singled out."""
    refused = {kind: [not judged(gate, image).inside for image in chests[kind]] for kind in ("frontal", "lateral")}
    assert np.mean([*refused["frontal"], *refused["lateral"]]) <= 0.06
    assert max(np.mean(each) for each in refused.values()) < 0.15


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_chest_is_told_with_its_reason(gate, kind):
    random = np.random.default_rng(0)
    for _ in range(8):
        told = judged(gate, ODD[kind](SIZE, random))
        assert not told.inside
        assert told.score > told.limit == 1
        assert told.reasons


def test_an_inverted_film_is_called_a_negative(gate, chests):
    told = [judged(gate, 255 - image) for image in chests["frontal"][:20]]
    assert not any(one.inside for one in told)
    assert np.mean(["negative" in one.reasons[0] for one in told]) > 0.9


def test_one_odd_image_makes_the_study_odd_and_is_named(gate, chests):
    chest = next(image for image in chests["frontal"] if judged(gate, image).inside)
    told = judged(gate, chest, hand(SIZE, np.random.default_rng(0)))
    assert not told.inside
    assert all("image 2" in reason for reason in told.reasons)


def test_the_statistics_come_back_as_they_were_written(gate, chests, tmp_path):
    assert read_distribution(tmp_path) is None
    (tmp_path / FILE).write_text(gate.to_json())
    back = read_distribution(tmp_path)
    assert back is not None
    (tmp_path / FILE).write_text(gate.to_json().replace('"hilum_distribution": 2', '"hilum_distribution": 1'))
    assert read_distribution(tmp_path) is None, "of another version"
    for image in (chests["frontal"][0], hand(SIZE, np.random.default_rng(0))):
        assert judged(back, image).score == pytest.approx(judged(gate, image).score, rel=1e-3)


@pytest.mark.parametrize("spoil", ["shape", "width", "word", "gone"])
def test_damaged_statistics_are_refused(gate, tmp_path, spoil):
    facts = json.loads(gate.to_json())
    match spoil:
        case "shape":
            facts["picture"]["mean"].pop()
        case "width":
            facts["features"]["limit"] = 0
        case "word":
            facts["picture"]["rest"] = "much"
        case "gone":
            del facts["features"]["axes"]
    (tmp_path / FILE).write_text(json.dumps(facts))
    with pytest.raises(InputError, match="damaged"):
        read_distribution(tmp_path)


def test_the_limit_is_the_quantile_of_held_out_images():
    """With D-dimensional normal points, about 1 - quantile of new ones lie beyond either limit."""
    random = np.random.default_rng(0)
    draw = [(random.normal(size=(800, 40)), random.normal(size=(800, 12))) for _ in range(3)]
    made = learn_distribution(draw[0], draw[1], quantile=0.9)
    beyond = [
        made.picture.distances(draw[2][0]) > made.picture.limit,
        made.features.distances(draw[2][1]) > made.features.limit,
    ]
    assert np.mean(beyond[0] | beyond[1]) == pytest.approx(0.1, abs=0.04)


def test_a_model_is_measured_without_being_changed(chests):
    import polars as pl

    model = build_classifier(ModelSpec(Choice("custom_cnn", {"widths": [4, 6]})), ["a"], SIZE).train()
    images = {f"i{n}": image for n, image in enumerate(chests["train"])}
    rows = [
        {"study_id": name, "patient_id": name, "image_id": name, "path": name, "view": "PA", "source": "x", "a": 1}
        for name in images
    ]
    samples = Studies(pl.DataFrame(rows, schema_overrides={"a": pl.Int8}), InMemory(images), [])
    made = measure_distribution(model, samples, samples, most=50)
    assert model.training
    assert (made.images, made.held_out, made.features.mean.shape) == (50, 50, (6,))
