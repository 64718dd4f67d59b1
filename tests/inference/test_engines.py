"""Every engine gives torch's answers, whatever the number of images, studies and views and whoever stands beside a study."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from hilum.bundle import amend_bundle, read_bundle
from hilum.errors import InputError
from hilum.inference import export as exporting
from hilum.inference.engines import ENGINES, open_engine
from hilum.inference.export import export
from hilum.inference.parity import accept, compared
from hilum.inference.predict import load
from hilum.inference.self_test import largest_difference, read_self_test, sigmoid
from hilum.operating_points import OperatingPoint
from hilum.tables import write_studies
from tests.serving.bundles import ATTENDING, BY_VIEW, CHEXFUSION, SIZE, copied, exported, made_once, write_small_bundle
from tests.small import FINDINGS, write_small_studies

MODELS = {"attending": ATTENDING, "chexfusion": CHEXFUSION}


@pytest.fixture(scope="session", params=MODELS)
def each(request, tmp_path_factory):
    return shared_bundle(tmp_path_factory, request.param)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return shared_bundle(tmp_path_factory, "attending")


def shared_bundle(tmp_path_factory, kind):
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "popen-gw" in base.name else base
    return made_once(shared / f"served-{kind}", exported(MODELS[kind]))


def studies(rows, views, seed=0):
    """Images (B, V, 1, S, S) with holes, present, view, demographics."""
    random = np.random.default_rng(seed)
    images = random.random((rows, views, 1, SIZE, SIZE), dtype=np.float32)
    present = random.random((rows, views)) < 0.7
    present[:, 0] = True
    images[~present] = np.nan
    people = np.array([[6, 1, 1, 1], [0, 0, 0, 0], [4, 1, 0, 1]], np.float32)[random.integers(0, 3, rows)]
    return images, present, random.integers(0, 4, (rows, views)).astype(np.int8), people


def test_onnx_says_what_torch_says_for_any_number_of_studies_and_views(each):
    facts = read_bundle(each)
    torch_engine, onnx = open_engine(facts, "torch"), open_engine(facts, "onnx")
    assert torch_engine.attends
    assert onnx.attends
    for rows, views in ((1, 1), (3, 2), (2, 5)):
        batch = studies(rows, views, seed=rows)
        expected = torch_engine.logits(*batch)
        assert np.ptp(expected) > 0.1, "answers that are all alike would show nothing"
        np.testing.assert_allclose(onnx.logits(*batch), expected, atol=2e-5)


def test_attention_comes_out_of_the_graph(each):
    facts = read_bundle(each)
    images, present, view, people = studies(2, 3, seed=5)
    readings = []
    for name in ("torch", "onnx"):
        engine = open_engine(facts, name)
        features = engine.encode(np.nan_to_num(images).reshape(6, 1, SIZE, SIZE), view.reshape(6))
        readings.append(engine.read(features.reshape(2, 3, *features.shape[1:]), present, view, people))
    np.testing.assert_allclose(readings[1].attention, readings[0].attention, atol=1e-5)
    assert readings[0].attention.shape[:3] == (2, len(FINDINGS), 3)
    assert (np.moveaxis(readings[0].attention, 2, 1)[~present] == 0).all()


@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_an_answer_does_not_depend_on_its_neighbours(each, name):
    """R19: alone, among 7 others, in another order."""
    engine, batch = open_engine(read_bundle(each), name), studies(8, 3, seed=2)
    together = sigmoid(engine.logits(*batch))
    order = np.random.default_rng(0).permutation(8)
    assert np.abs(sigmoid(engine.logits(*(part[order] for part in batch))) - together[order]).max() <= 1e-5
    alone = np.concatenate([engine.logits(*(part[row : row + 1] for part in batch)) for row in range(8)])
    assert np.abs(sigmoid(alone) - together).max() <= 1e-5
    assert np.ptp(together, axis=0).min() > 0.01


def test_openvino_in_fp32_and_in_bf16(bundle, tmp_path):
    pytest.importorskip("openvino")
    copy = copied(bundle, tmp_path / "bundle")
    before = read_bundle(copy).identity
    with pytest.raises(InputError, match=r"hilum export .*--to openvino"):
        open_engine(read_bundle(copy), "openvino")
    for precision, name, most in (("fp32", "openvino", 1e-5), ("bf16", "openvino-bf16", 0.02)):
        told = export(copy, to="openvino", precision=precision)
        assert told["self_test"]["largest_difference"] <= most
        facts = read_bundle(copy)
        assert facts.identity == before
        batch = studies(3, 2, seed=3)
        expected = open_engine(facts, "torch").logits(*batch)
        assert largest_difference(open_engine(facts, name).logits(*batch), expected) <= most


def test_what_was_measured_stands_in_the_bundle(bundle):
    facts = read_bundle(bundle)
    told = json.loads((bundle / "model.onnx" / "parity.json").read_text())["fp32"]
    assert told["identity"] == facts.identity
    assert told["self_test"]["largest_difference"] < 1e-5
    assert told["neighbours"] < 1e-5
    test = read_self_test(facts)
    assert test.images.shape[1:] == (2, 1, SIZE, SIZE)
    assert test.present.any()
    assert test.difference(open_engine(facts, "onnx")) < 1e-5
    shifted = type(test)(**{**vars(test), "logits": test.logits + 1})
    assert shifted.difference(open_engine(facts, "onnx")) > 0.01


def test_graphs_of_another_model_are_not_used(bundle, tmp_path):
    copy = copied(bundle, tmp_path / "bundle")
    facts = read_bundle(copy)
    told = json.loads((copy / "model.onnx" / "parity.json").read_text())
    told["fp32"]["identity"] = "0" * 64
    amend_bundle(facts, lambda folder: (folder / "model.onnx" / "parity.json").write_text(json.dumps(told)))
    with pytest.raises(InputError, match="has not been exported to onnx"):
        open_engine(read_bundle(copy), "onnx")


def test_a_graph_that_answers_otherwise_is_not_kept(tmp_path, monkeypatch):
    write_small_bundle(ATTENDING, tmp_path / "bundle")
    before = sorted(file.name for file in (tmp_path / "bundle").iterdir())

    def other(*_):
        engine = open_engine(read_bundle(tmp_path / "bundle"), "torch")
        engine.classifier.head.head.project.bias.data += 0.1
        return engine

    monkeypatch.setitem(exporting._GRAPHS, "onnx", other)
    with pytest.raises(InputError, match=r"a probability changes by .* not offered"):
        export(tmp_path / "bundle")
    assert sorted(file.name for file in (tmp_path / "bundle").iterdir()) == before


def test_labelled_studies_are_compared_too(bundle, tmp_path):
    copy = copied(bundle, tmp_path / "bundle")
    studies = write_small_studies(tmp_path, patients=20)
    from hilum.inference.engines import open_engine as opened

    facts = read_bundle(copy)
    given, _ = exporting._given(facts, studies, tmp_path / "cache", None, 25, exporting.silent)
    told = exporting._compared(
        facts, opened(facts, "onnx"), opened(facts, "torch"), read_self_test(facts), given, exporting.silent
    )
    assert told["given"]["studies"] == 25
    assert told["given"]["largest_difference"] < 1e-5
    assert told["given"]["map"][0] == pytest.approx(told["given"]["map"][1], abs=1e-6)
    assert 0 < told["given"]["map"][0] < 1
    assert 0 < told["given"]["ece"][0] < 1


def test_fp32_must_not_know_its_neighbours():
    """R19; less than fp32 rounds differently by itself."""
    same = [{"largest_difference": 0.0}]
    accept("fp32", same, 1e-6)
    accept("bf16", same, 1e-3)
    for neighbours in (2e-5, float("nan")):
        with pytest.raises(InputError, match="with the studies beside it"):
            accept("fp32", same, neighbours)


def test_a_calibration_that_suffers_is_not_offered():
    told = {"largest_difference": 0.005, "ece": [0.02, 0.035], "map": [0.5, 0.5]}
    for precision in ("bf16", "int8"):
        with pytest.raises(InputError, match=r"calibration error grows from 0\.0200 to 0\.0350"):
            accept(precision, [told])
        accept(precision, [told | {"ece": [0.035, 0.03]}])


def test_int8_from_some_patients_and_judged_on_others(bundle, tmp_path):
    pytest.importorskip("openvino")
    copy, table = copied(bundle, tmp_path / "bundle"), write_small_studies(tmp_path, patients=60)
    rows = pl.read_parquet(table)
    chances = load(copy, device="cpu").predict(table)
    known = [  # the highest and the lowest third, which little things do not put into another order
        pl.when(pl.col(name).rank() > 0.66 * pl.len()).then(1).when(pl.col(name).rank() < 0.33 * pl.len()).then(0).cast(pl.Int8).alias(name)
        for name in FINDINGS
    ]  # fmt: skip
    labels = chances.select("study_id", *known)
    write_studies(rows.drop(FINDINGS).join(labels, on="study_id", maintain_order="left"), table, label_level="study")
    facts = read_bundle(copy)
    judged, ranges = exporting._given(facts, table, tmp_path / "cache", None, 500, exporting.silent, 64)
    owners = dict(rows.select("study_id", "patient_id").iter_rows())
    assert not {owners[one] for one in judged.ids} & {owners[one] for one in ranges.ids}
    assert len(ranges.rows) >= 64
    told = export(copy, to="openvino", precision="int8", studies=table, cache=tmp_path / "cache", split=None)
    assert told["given"]["studies"] == len(judged)
    assert told["given"]["map"] == pytest.approx([1, 1], abs=0.002)
    engine = open_engine(read_bundle(copy), "openvino-int8")
    batch = studies(3, 2, seed=3)
    difference = largest_difference(engine.logits(*batch), open_engine(facts, "torch").logits(*batch))
    assert 1e-6 < difference < 0.1, "whole numbers are not quite what torch says"


def test_int8_is_judged_by_its_map():
    bundle = type("Facts", (), {"findings": ["Edema"], "operating_points": [OperatingPoint("Edema", 0.5, "", "")]})
    labels = np.array([[1.0]] * 20 + [[0.0]] * 20)
    good = np.concatenate([np.linspace(1, 2, 20), np.linspace(-2, -1, 20)])[:, None].astype(np.float32)
    bad = good.copy()
    bad[:4] *= -1
    accept("int8", [compared(bundle, good + 0.01, good, labels)])
    with pytest.raises(InputError, match="the calibration error grows from"):
        accept("int8", [compared(bundle, 0.5 * good, good, labels)])
    with pytest.raises(InputError, match=r"mAP falls from 1\.0000"):
        accept("int8", [compared(bundle, bad, good, labels)])
    with pytest.raises(InputError, match="only where its mAP has been measured"):
        accept("int8", [compared(bundle, good, good, None)])
    with pytest.raises(InputError, match="not offered"):
        accept("bf16", [compared(bundle, good + 0.4, good, labels)])
    assert compared(bundle, bad, good, labels)["decisions_changed"] == 4


def test_unknown_and_uninstalled_engines_are_told(bundle, monkeypatch):
    facts = read_bundle(bundle)
    with pytest.raises(InputError, match=r"id you mean 'onnx'"):
        open_engine(facts, "onx")
    monkeypatch.setitem(ENGINES, "onnx", "hilum_nowhere.engine:Engine")
    with pytest.raises(InputError, match=r"not installed .*hilum\[serve\]"):
        open_engine(facts, "onnx")


def test_a_graph_cannot_point_at_other_files(bundle, tmp_path):
    """ONNX may keep weights in files beside the graph, by a path that may lead anywhere."""
    import onnx

    from hilum.inference.onnx_engine import OnnxEngine

    (tmp_path / "secret").write_bytes(bytes(1 << 20))
    graph = onnx.load(bundle / "model.onnx" / "encode.onnx")
    tensor = max(graph.graph.initializer, key=lambda one: len(one.raw_data))
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", str(tmp_path / "secret")), ("length", str(size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    (tmp_path / "encode.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(InputError, match="cannot read this graph"):
        OnnxEngine(tmp_path / "encode.onnx", bundle / "model.onnx" / "read.onnx")


@pytest.mark.long
def test_networks_by_view_are_exported_too(tmp_path):
    exported(BY_VIEW)(tmp_path / "bundle")
    facts, batch = read_bundle(tmp_path / "bundle"), studies(4, 3)
    np.testing.assert_allclose(
        open_engine(facts, "onnx").logits(*batch), open_engine(facts, "torch").logits(*batch), atol=2e-5
    )


def test_predict_answers_alike_on_every_engine(bundle, tmp_path):
    studies = write_small_studies(tmp_path, patients=4)
    tables = [
        load(bundle, engine=name, device="cpu").predict(studies, cache=tmp_path / "cache") for name in ("torch", "onnx")
    ]
    for name in FINDINGS:
        np.testing.assert_allclose(tables[1][name], tables[0][name], atol=1e-5)
    assert tables[0][FINDINGS[0]].n_unique() > 3
    turned = load(bundle, engine="onnx").predict(studies, cache=tmp_path / "cache", tta="flip")
    assert (turned[FINDINGS[0]] - tables[0][FINDINGS[0]]).abs().max() > 1e-3
    with pytest.raises(InputError, match="vocabulary of this bundle is closed"):
        load(bundle, engine="onnx").predict(studies, findings=["Mass"])


def test_nobody_is_told_that_openvino_is_used(bundle, tmp_path):
    """openvino brings a package that reports its use as soon as it is imported, from a process of its own."""
    pytest.importorskip("openvino")
    code = f"""
import sys
from pathlib import Path
seen = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.fork", "os.posix_spawn"):
        seen.append((event, str(arguments)[:200]))
sys.addaudithook(watch)
import numpy as np
from hilum.inference.openvino_engine import OpenVinoEngine, convert
graphs, out = Path({str(bundle)!r}) / "model.onnx", Path({str(tmp_path)!r})
for name in ("encode", "read"):
    convert(graphs / (name + ".onnx"), out / (name + ".xml"))
engine = OpenVinoEngine(out / "encode.xml", out / "read.xml")
features = engine.encode(np.zeros((2, 1, {SIZE}, {SIZE}), np.float32))
engine.read(features[None], np.ones((1, 2), bool), np.ones((1, 2), np.int8))
import socket
try:
    socket.create_connection(("127.0.0.1", 1), 0.1)
except OSError:
    pass
print(seen)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = done.stdout.strip().splitlines()[-1]
    assert seen.count("socket.connect") == 1, seen
    assert "127.0.0.1" in seen, "the one that the test itself made, so that the watch is known to see"
    assert "Popen" not in seen
    assert "fork" not in seen
