"""What is answered of a study, without HTTP: the bundle's test-time transforms, what the model went without, the gate."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hilum.bundle import amend_bundle, read_bundle
from hilum.errors import InputError
from hilum.inference import tta
from hilum.inference.distribution import Judged
from hilum.inference.explain_files import explain_files
from hilum.inference.predict import load
from hilum.pixels.isolated.decoder import Decoder
from hilum.recipe import ModelSpec, PredictSpec
from hilum.serving.answer import Answerer, Person
from hilum.serving.pictures import picture_of
from hilum.serving.problems import Problem
from tests.pixels import dicom_files as d
from tests.pixels.files import png
from tests.serving.bundles import copied, write_small_bundle
from tests.small import FINDINGS

CHEST = d.chest()
LEFT = np.where(np.arange(CHEST.shape[1]) < 60, CHEST, CHEST // 3).astype(np.uint8)  # unlike its mirror image
PNG = png(CHEST)


def predicting(bundle, folder, **spec):
    """A copy of a bundle whose recipe predicts so."""
    copy = copied(bundle, folder)
    amend_bundle(replace(read_bundle(copy), predict=spec), lambda changed: None)
    return copy


def files(folder):
    for name, image in (("a", LEFT), ("b", LEFT[::-1])):
        (folder / f"{name}.png").write_bytes(png(image))
    return [folder / "a.png", folder / "b.png"]


def prepared(answerer, *contents):
    with Decoder() as decoder:
        pictures = [picture_of(data, k, decoder, answerer.bundle.pixels) for k, data in enumerate(contents)]
    return answerer.prepare(pictures, Person())


def chances(told):
    return {finding["name"]: finding["probability"] for finding in told["findings"]}


@pytest.mark.parametrize(
    ("engine", "words", "space"),
    [("onnx", ["flip"], "probability"), ("onnx", ["flip"], "logit"), ("torch", ["flip", "rotate:5", "random:2"], "probability")],
)  # fmt: skip
def test_the_bundles_transforms_count_as_they_do_in_predict(bundle, tmp_path, engine, words, space):
    copy, given = predicting(bundle, tmp_path / "bundle", tta=words, space=space), files(tmp_path)
    answerer = Answerer(copy, engine=engine)
    told = answerer.study([file.read_bytes() for file in given])
    model = load(copy, engine=engine, device="cpu")
    table = model.predict(given, one_study=True)
    assert chances(told) == pytest.approx({name: table[name][0] for name in FINDINGS}, abs=1e-6)
    assert told["model"]["tta"] == {name: model.tta[name] for name in ("transforms", "space")}
    alone = model.predict(given)
    for finding in told["findings"]:
        assert finding["views"] == pytest.approx(alone[finding["name"]].to_list(), abs=1e-6)
    plain = model.predict(given, one_study=True, tta="none")
    assert any(abs(plain[name][0] - table[name][0]) > 1e-3 for name in FINDINGS), "they would change nothing"
    shown = explain_files(copy, given, ["Mass"], tmp_path / "maps", one_study=True, engine=engine, method="attention")
    assert shown[0]["probability"] == pytest.approx(table["Mass"][0], abs=1e-6)


def test_transforms_that_take_torch_are_refused_at_the_start(bundle, tmp_path):
    copy = predicting(bundle, tmp_path / "bundle", tta=["flip", "random:4"])
    with pytest.raises(InputError, match=r"random:4, which takes torch\. Use the engine torch"):
        Answerer(copy)


def test_the_names_without_torch_are_names_of_predict():
    from hilum.inference.averaging import EXACT

    images = np.random.default_rng(0).integers(0, 256, (2, 1, 5, 7), np.uint8)
    theirs = tta.transforms(list(EXACT))
    assert set(EXACT) == set(theirs) | {"identity"}
    for name, ours in EXACT.items():
        assert (ours(images) == theirs[name](torch.from_numpy(images), PredictSpec().seed).numpy()).all()


def test_what_no_form_can_tell_the_model_is_named(tmp_path):
    spec = ModelSpec(
        backbone={"name": "custom_cnn", "widths": [8, 12]},
        fusion={"name": "transformer", "layers": 1, "heads": 2, "hidden": 16, "dim": 16, "context": ["prior", "indication"]},
        head={"name": "linear"},
    )  # fmt: skip
    write_small_bundle(spec, tmp_path / "bundle")
    given = files(tmp_path)
    told = Answerer(tmp_path / "bundle", engine="torch").study(
        [file.read_bytes() for file in given], person=Person(50, "F")
    )
    assert told["unknown"] == ["view of image 1", "view of image 2", "study before", "indication"]
    table = load(tmp_path / "bundle", device="cpu").predict(given, one_study=True)
    assert chances(told) == pytest.approx({name: table[name][0] for name in FINDINGS}, abs=1e-6)


@pytest.mark.parametrize("gate", ["flag", "refuse"])
def test_the_gate_holds_for_answers_and_for_maps(bundle, gate):
    class Far:
        def judge(self, images, features):
            assert len(images) == len(features) == 1
            return Judged(3.0, 1.0, ["the image is a cat"])

    answerer = Answerer(bundle, gate=gate)
    answerer.distribution = Far()
    study = prepared(answerer, PNG)
    for answer in (
        lambda: answerer.told(study, answerer.ask([study])[0]),
        lambda: answerer.explained(study, ["Mass"], "attention"),
    ):
        if gate == "flag":
            told = answer()
            assert told.get("in_distribution", False) is False
        else:
            with pytest.raises(Problem, match="not-a-chest-xray") as caught:
                answer()
            assert (caught.value.status, "a cat" in caught.value.detail) == (422, True)
    if gate == "flag":
        assert answerer.study([PNG])["distribution"]["reasons"] == ["the image is a cat"]


def test_the_lateral_is_read_before_a_fifth_frontal(bundle):
    answerer = Answerer(bundle)
    frontals = [png(np.roll(CHEST, 5 * k, axis=1)) for k in range(1, 5)]
    with Decoder() as decoder:
        pictures = [
            picture_of(data, k, decoder, answerer.bundle.pixels, view=view)
            for k, (data, view) in enumerate([*((one, "PA") for one in frontals), (PNG, "LATERAL")])
        ]
    study = answerer.prepare(pictures, Person())
    assert [one.view for one in study.read] == ["PA"] * (answerer.bundle.views - 1) + ["LATERAL"]
