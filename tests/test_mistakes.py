"""Likely mistakes, each told before it costs anything: inputs stay as they were, and the corrected command finds its way free."""

from functools import partial

import cv2
import polars as pl
import pytest
import torch

from hilum.data.cache import build_cache
from hilum.errors import InputError
from hilum.evaluation.compare import compare
from hilum.evaluation.ensemble import ensemble
from hilum.evaluation.gating import apply_rules
from hilum.inference.calibrate import calibrate
from hilum.inference.predict import load, predict
from hilum.inference.pseudo import pseudo
from hilum.inference.torch_engine import pick_device
from hilum.recipe import parse_recipe
from hilum.reproduce import reproduce
from hilum.sources import import_studies
from hilum.tables import Predictions, read_predictions, read_studies, write_predictions, write_studies
from hilum.training.plan import check_recipe
from hilum.training.run import train
from hilum.training.view_classifier import views
from tests.small import FINDINGS, short_run, small_studies, write_small_studies


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    write_small_studies(folder, patients=30)
    return train("demo", short_run(folder), run=folder / "run")


@pytest.fixture
def picture(tmp_path):
    _, images = small_studies(patients=1)
    file = tmp_path / "patient.png"
    cv2.imwrite(str(file), images.pixels[0])
    return file


def refused(work, file):
    """The work is refused, and the file is as it was."""
    before = file.read_bytes()
    with pytest.raises(InputError, match="inputs are never changed"):
        work(output=file)
    assert file.read_bytes() == before


def test_no_verb_writes_its_result_over_what_it_reads(run, picture, tmp_path):
    bundle, studies = run / "bundle", run / "studies.parquet"
    one, other = (tmp_path / f"{name}.parquet" for name in ("one", "other"))
    for copy in (one, other):
        copy.write_bytes((run / "predictions_test.parquet").read_bytes())
    held = tmp_path / "held.parquet"
    held.write_bytes((run / "predictions_valid.parquet").read_bytes())
    refused(partial(predict, bundle, picture), picture)
    refused(partial(predict, bundle, [picture.parent]), picture)
    refused(partial(predict, bundle, studies), studies)
    refused(partial(pseudo, bundle, studies, uncalibrated=True), studies)
    refused(partial(compare, [one, other], studies), other)
    refused(partial(compare, [[one], [other]], studies), studies)
    refused(partial(ensemble, [one, other]), other)
    refused(partial(ensemble, [one, other], method="weighted", fit_on=[[held], held], studies=studies), held)
    refused(partial(apply_rules, one, normal=FINDINGS[0], power=1.0), one)
    refused(partial(apply_rules, one, normal=FINDINGS[0], fit_on=held, studies=studies), held)


def test_a_table_may_stand_among_the_images_it_was_made_from(run, picture):
    output = picture.parent / "predictions.parquet"
    for _ in range(2):  # and be made again
        predict(run / "bundle", picture.parent if output.exists() else picture, output)
    assert len(read_predictions(output).table) == 1


@pytest.mark.parametrize("wish", ["gpu", "cudda", "cuda:x", "cuda:99", "xpu"])
def test_a_device_that_is_not_there(wish, run):
    with pytest.raises(InputError, match="device"):
        pick_device(wish)
    with pytest.raises(InputError, match="device"):
        check_recipe(parse_recipe({"train": {"device": wish}}))
    with pytest.raises(InputError, match="device"):
        load(run / "bundle", device=wish)


def test_devices_that_are_there(run):
    assert pick_device("CPU") == torch.device("cpu")
    assert pick_device("cpu:0").type == "cpu"
    assert pick_device().type in ("cpu", "cuda", "mps")
    with pytest.raises(InputError, match="runs on the processor"):
        load(run / "bundle", engine="onnx", device="cuda")


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ({"train": {"clip": -1}}, "train.clip is -1"),
        ({"train": {"seed": -1}}, "train.seed is -1"),
        ({"train": {"patience": -1}}, "train.patience is -1"),
        ({"train": {"weight_decay": -0.1}}, "train.weight_decay is -0.1"),
        ({"train": {"lr": float("nan")}}, "train.lr is nan"),
        ({"train": {"lr": float("inf")}}, "train.lr is inf"),
        ({"train": {"devices": 2}}, "torchrun --standalone --nproc-per-node 2"),
        ({"cache": {"size": 0}}, "image size 0"),
        ({"augment": {"name": "standard", "flip": 7}}, "augment.flip is 7"),
        ({"augment": {"name": "standard", "noise": -1.0}}, "augment.noise is -1"),
        ({"loss": {"name": "focal", "gamma": -2.0}}, "gamma of the loss is -2"),
        ({"loss": {"name": "asymmetric", "clip": 1.0}}, "clip 1"),
        ({"model": {"head": {"name": "ml_decoder", "dropout": 2.0}}}, "model.head.dropout is 2"),
        ({"model": {"backbone": {"name": "test_resnet", "drop_path_rate": 5.0}}}, "model.backbone.drop_path_rate is 5"),
    ],
)
def test_impossible_numbers_of_a_recipe(page, said, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match=said):
        check_recipe(parse_recipe(page))


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("findings=[Mas]", "findings=[Mass]", "did you mean 'Mass'"),
        ("findings=cxr-lt-2032", "findings=null", "there is no finding set"),
        ("findings=[]", "findings=null", "no finding is named"),
        ("init=NOT_A_BUNDLE", "init=null", "NOT_A_BUNDLE"),
    ],
)
def test_the_corrected_command_finds_the_folder_free(run, tmp_path, wrong, right, said):
    (tmp_path / "NOT_A_BUNDLE").mkdir()
    options = short_run(run.parent)
    wrong = wrong.replace("NOT_A_BUNDLE", str(tmp_path / "NOT_A_BUNDLE"))
    with pytest.raises(InputError, match=said):
        train("demo", [*options, wrong], run=tmp_path / "typo")
    assert train("demo", [*options, right], run=tmp_path / "typo") == tmp_path / "typo"


def test_a_run_that_has_trained_is_never_taken_back(run, tmp_path):
    with pytest.raises(InputError, match="not empty"):
        train("demo", short_run(run.parent), run=run)
    assert (run / "bundle").is_dir()


def test_predictions_made_elsewhere(tmp_path):
    scores = pl.Series("Mass", [0.1, 0.2], dtype=pl.Float32)
    for name, table, said in (
        ("numbers", pl.DataFrame({"study_id": [1, 2]}).with_columns(scores), "study_id is Int64, not String"),
        ("none", pl.DataFrame({"study_id": ["a", "b"]}), "no finding"),
        ("empty", pl.DataFrame({"study_id": ["a", "b"]}).with_columns(scores).head(0), "no row"),
    ):
        table.write_parquet(tmp_path / f"{name}.parquet")
        with pytest.raises(InputError, match=said):
            read_predictions(tmp_path / f"{name}.parquet")
    good = tmp_path / "good.parquet"
    write_predictions(Predictions(pl.DataFrame({"study_id": ["a", "b"]}).with_columns(scores)), good)
    for facts in ("{", '{"strange": 1}'):
        pl.read_parquet(good).write_parquet(tmp_path / "odd.parquet", metadata={"hilum": "predictions", "facts": facts})
        with pytest.raises(InputError, match="cannot be read"):
            read_predictions(tmp_path / "odd.parquet")


def test_a_gate_s_options_want_a_gate(run):
    predictions, output = run / "predictions_test.parquet", run.parent / "ruled.parquet"
    with pytest.raises(InputError, match="Name the finding"):
        apply_rules(predictions, output, power=1.0, parents={"Mass": "Edema"})
    with pytest.raises(InputError, match="nothing to choose"):
        apply_rules(predictions, output, normal="Edema", power=1.0, fit_on=run / "predictions_valid.parquet")
    assert not output.exists()


def test_nothing_to_calibrate_by_leaves_the_bundle_as_it_was(run, tmp_path):
    points = (run / "bundle" / "operating_points.csv").read_bytes()
    table = read_studies(run / "studies.parquet")
    for value in (None, 0):
        blank = table.with_columns(pl.lit(value, dtype=pl.Int8).alias(name) for name in FINDINGS)
        write_studies(blank, tmp_path / "blank.parquet", label_level="study")
        with pytest.raises(InputError, match="both a positive and a negative"):
            calibrate(run / "bundle", tmp_path / "blank.parquet", cache=run.parent / "cache")
    assert (run / "bundle" / "operating_points.csv").read_bytes() == points


def test_images_that_moved_away_are_named(run, tmp_path):
    table = read_studies(run / "studies.parquet")
    gone = table.with_columns(path=pl.lit("/gone/") + pl.col("image_id") + ".png")
    write_studies(gone, tmp_path / "gone.parquet", label_level="study")
    for number, work in enumerate(
        (
            lambda cache: views(tmp_path / "gone.parquet", tmp_path / "classifier", cache=cache, steps=1),
            lambda cache: predict(run / "bundle", tmp_path / "gone.parquet", tmp_path / "p.parquet", cache=cache),
        )
    ):
        with pytest.raises(InputError, match=r"/gone/.*no such file"):
            work(tmp_path / f"cache-{number}")
    images = build_cache(gone, tmp_path / "cache-2", size=32)
    assert not len(images.image_ids)


def test_a_table_beside_pictures(run, picture):
    with pytest.raises(InputError, match="a table stands beside other files"):
        predict(run / "bundle", [run / "studies.parquet", picture], picture.parent / "p.parquet")


def test_what_would_stop_the_judging_is_told_before_anything_is_trained(run, tmp_path):
    studies = run / "studies.parquet"
    for options, said in (
        ({"tiers": "cxr-lt-2032"}, "no tier list"),
        ({"replicates": 0}, "replicates"),
        ({"truth": tmp_path / "other.parquet"}, "images to be judged"),
    ):
        table = read_studies(studies).with_columns(pl.col("image_id") + "x")
        write_studies(table, tmp_path / "other.parquet", label_level="study")
        with pytest.raises(InputError, match=said):
            reproduce("chexfusion", studies, small=True, runs=tmp_path / "runs", **options)
        assert not (tmp_path / "runs").exists()


def test_an_import_does_not_replace_its_label_table(run, tmp_path):
    labels = tmp_path / "labels.parquet"
    labels.write_bytes((run / "studies.parquet").read_bytes())
    refused(lambda output: import_studies("folder", run.parent, output, table=str(labels)), labels)
