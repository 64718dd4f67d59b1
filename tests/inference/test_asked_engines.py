"""The graphs of an open bundle are asked about any findings: they say what torch says, and the others stay as they were."""

import json

import numpy as np
import pytest

from hilum.bundle import read_bundle
from hilum.errors import InputError
from hilum.inference.engines import open_engine
from hilum.inference.export import export
from hilum.inference.parity import OTHERS, accept
from hilum.inference.predict import load
from hilum.inference.vocabulary import carried_labels
from tests.inference.test_engines import shared_bundle, studies
from tests.serving.bundles import OPEN, copied, exported, made_once
from tests.small import FINDINGS, write_small_studies


@pytest.fixture(scope="session")
def opened(tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "popen-gw" in base.name else base
    return made_once(shared / "served-open", exported(OPEN))


def asked_as_torch(bundle, name):
    facts = read_bundle(bundle)
    labels, batch = carried_labels(facts), studies(3, 2, seed=4)
    ours, torch_engine = open_engine(facts, name), open_engine(facts, "torch")
    plain = ours.logits(*batch)
    for names in (["Bulla"], ["Scoliosis", "Hernia"], sorted(labels.names)[::-1]):
        vectors = labels.of(names)
        said = ours.asked(vectors).logits(*batch)
        np.testing.assert_allclose(said, torch_engine.asked(vectors).logits(*batch), atol=2e-5)
        for place in (place for place, one in enumerate(names) if one in FINDINGS):
            np.testing.assert_allclose(said[:, place], plain[:, FINDINGS.index(names[place])], atol=1e-6, rtol=1e-6)
    assert np.ptp(said, axis=1).min() > 0.05, "findings that are all answered alike would show nothing"
    assert (ours.logits(*batch) == plain).all(), "asking leaves the engine as it is"


def test_onnx_is_asked_about_any_number_of_findings(opened):
    asked_as_torch(opened, "onnx")


def test_openvino_is_asked_too(opened, tmp_path):
    pytest.importorskip("openvino")
    copy = copied(opened, tmp_path / "bundle")
    export(copy, to="openvino")
    asked_as_torch(copy, "openvino")


def test_what_asking_changes_was_measured(opened):
    added = json.loads((opened / "model.onnx" / "parity.json").read_text())["fp32"]["added"]
    assert added["findings"] == len(set(carried_labels(read_bundle(opened)).names) - set(FINDINGS))
    assert added["largest_difference"] < 1e-5
    assert added["others"] <= OTHERS
    with pytest.raises(InputError, match="a logit changes by"):
        accept("fp32", [{"largest_difference": 0.0}, added | {"others": 2 * OTHERS}])
    with pytest.raises(InputError, match="a probability changes by"):
        accept("fp32", [{"largest_difference": 0.0}, added | {"largest_difference": 0.01}])


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_a_closed_bundle_cannot_be_asked(tmp_path_factory, name):
    engine = open_engine(read_bundle(shared_bundle(tmp_path_factory, "attending")), name)
    assert engine.labels is None
    with pytest.raises(InputError, match="closed"):
        engine.asked(np.zeros((1, 4), np.float32))


def test_predict_asks_on_every_engine(opened, tmp_path):
    table = write_small_studies(tmp_path, patients=3)
    asked = ["bulla", "Mass"]
    ours, theirs = (
        load(opened, engine=name, device="cpu").predict(table, findings=asked) for name in ("onnx", "torch")
    )
    assert ours.columns == theirs.columns == ["study_id", "patient_id", "Bulla", "Mass"]
    for name in ("Bulla", "Mass"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-5)
