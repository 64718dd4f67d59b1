"""Whole runs on real files: the run folder, stages, resuming after SIGKILL, prediction by the bundle, mistakes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from hilum.bundle import read_bundle
from hilum.errors import InputError
from hilum.inference.distribution import read_distribution
from hilum.inference.gate import gate
from hilum.inference.predict import load, predict
from hilum.tables import read_predictions, read_studies
from hilum.training.run import train
from tests.small import FINDINGS, write_small_studies

QUICK = ["findings=null", "cache.size=32", "train.epochs=2", "train.batch_size=16", "model.backbone.name=test_resnet",
         "train.ema=0.5", "split.valid=0.25", "split.test=0.25"]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_small_studies(folder, patients=40, note="A test.")
    return folder


def options(data: Path, *more: str) -> list[str]:
    return [f"studies={data / 'studies.parquet'}", f"cache.folder={data / 'cache'}", *QUICK, *more]


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    said: list[str] = []
    folder = train("demo", options(data), run=tmp_path_factory.mktemp("runs") / "run", say=said.append)
    return folder, said


def test_the_run_folder_is_whole(run):
    folder, said = run
    expected = {"recipe.yaml", "manifest.json", "studies.parquet", "log.csv", "log.jsonl", "curves.png", "main", "bundle",
                "predictions_valid.parquet", "predictions_test.parquet", "report"}  # fmt: skip
    assert {path.name for path in folder.iterdir()} == expected
    assert {path.name for path in (folder / "report").iterdir()} == {"report.html", "metrics.json"}
    assert {path.name for path in (folder / "main" / "checkpoints").iterdir()} == {
        "last.safetensors",
        "best.safetensors",
    }
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["stages"]["main"]["precision_reason"]
    assert any(line.startswith("device") and ":" in line for line in said)
    assert len((folder / "log.csv").read_text().splitlines()) == 3
    assert cv2.imread(str(folder / "curves.png")) is not None


def test_the_bundle_knows_the_images_it_was_trained_on(data, run, tmp_path):
    """The run makes its gate, and `hilum gate` makes the same again for a bundle that has none; the identity stays."""
    folder, _ = run
    made = read_distribution(folder / "bundle")
    assert made is not None
    assert made.images > made.held_out > 0
    before = read_bundle(folder / "bundle").identity
    shutil.copytree(folder / "bundle", tmp_path / "bundle")
    gate(tmp_path / "bundle", folder / "studies.parquet", cache=data / "cache", device="cpu")
    again = read_distribution(tmp_path / "bundle")
    assert again is not None
    assert again.features.limit == pytest.approx(made.features.limit, rel=1e-3)
    assert read_bundle(tmp_path / "bundle").identity == before
    with pytest.raises(InputError, match="no rows with split"):
        gate(tmp_path / "bundle", data / "studies.parquet", cache=data / "cache")


def test_the_log_has_the_validation_loss_of_each_finding(run):
    folder, _ = run
    log = pl.read_csv(folder / "log.csv")
    studies = read_studies(folder / "studies.parquet").filter(pl.col("split") == "valid").unique("study_id")
    known = {name: studies[name].is_in([0, 1]).sum() for name in FINDINGS}
    of_findings = {name: log[f"valid_losses/{name}"].to_numpy() for name, count in known.items() if count}
    together = sum(known[name] * values for name, values in of_findings.items()) / sum(known.values())
    np.testing.assert_allclose(together, log["valid_loss"].to_numpy(), rtol=1e-5)


def test_no_patient_is_on_two_sides(run):
    table = read_studies(run[0] / "studies.parquet")
    assert table.group_by("patient_id").agg(pl.col("split").n_unique())["split"].max() == 1
    assert set(table["split"]) == {"train", "valid", "test"}


def test_the_input_table_is_not_touched(data, run):
    assert "split" not in read_studies(data / "studies.parquet").columns


def test_the_bundle_predicts_what_the_run_predicted(run, data, tmp_path):
    folder, _ = run
    studies = read_studies(folder / "studies.parquet").filter(pl.col("split") == "test")
    frame = load(folder / "bundle").predict(studies.sample(fraction=1, shuffle=True, seed=1), batch_size=5)
    own = read_predictions(folder / "predictions_test.parquet")
    joined = own.table.join(frame, on="study_id", suffix="_again")
    assert joined.height == own.table.height == frame.height
    for name in FINDINGS:
        np.testing.assert_allclose(joined[name], joined[f"{name}_again"], atol=1e-5)
    assert own.note == "A test."
    assert "no test result" in str(read_predictions(folder / "predictions_valid.parquet").note)
    assert own.known.keys() == own.positives.keys() == set(FINDINGS)


def test_logits_are_what_probabilities_come_from(run):
    model = load(run[0] / "bundle", device="cpu")
    images, present, view = (
        torch.rand(2, 2, 1, 32, 32),
        torch.ones(2, 2, dtype=torch.bool),
        torch.ones(2, 2, dtype=torch.int8),
    )
    logits = model.logits(images, present, view)
    assert logits.shape == (2, len(model.findings))


def test_predicts_files_without_a_table_and_counts_what_it_cannot_read(run, data, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    picture = next(data.glob("*.png"))
    model = predict(run[0] / "bundle", [picture, tmp_path], tmp_path / "p.parquet")
    assert read_predictions(tmp_path / "p.parquet").table["study_id"].to_list() == [str(picture)]
    assert model.unreadable.height == 1
    assert "notes.png" in model.unreadable["path"][0]


def test_two_stages_the_second_on_a_frozen_backbone(data, tmp_path):
    page = tmp_path / "two.yaml"
    page.write_text(
        "findings: null\nstages:\n"
        "  - {name: single, model: {backbone: {name: test_resnet}}, train: {level: image, epochs: 1, batch_size: 16}}\n"
        "  - {name: fusion, init: single, freeze: backbone, model: {head: {name: ml_decoder, dim: 16, heads: 2, hidden: 16}},"
        " train: {level: study}}\n"
    )
    said: list[str] = []
    folder = train(
        page, [*options(data)[:2], "cache.size=32", "split.valid=0.25"], run=tmp_path / "run", say=said.append
    )
    first, second = (load_file(folder / stage / "checkpoints" / "best.safetensors") for stage in ("single", "fusion"))
    whole = load_file(folder / "bundle" / "model.safetensors")
    for key in first:
        if key.startswith("model/backbone"):
            assert key not in second, "what is frozen is not saved once more"
            assert torch.equal(first[key], whole[key.removeprefix("model/")]), key
    assert any(line.startswith("init") and "keys matched" in line for line in said)
    assert set(json.loads((folder / "manifest.json").read_text())["stages"]) == {"single", "fusion"}
    assert load(folder / "bundle").bundle.architecture["head"]["name"] == "ml_decoder"
    again = train(
        "demo",
        options(data, f"init={folder / 'bundle'}", "train.epochs=1", "model.head={name: linear}", "train.ema=0"),
        run=tmp_path / "third",
    )
    assert (again / "bundle").is_dir()


def test_folds_do_not_overlap_and_cover_everything(data, tmp_path):
    tested = []
    for fold in range(2):
        folder = train(
            "demo", options(data, "split.folds=2", f"split.fold={fold}", "train.epochs=1"), run=tmp_path / str(fold)
        )
        tested.append(set(read_predictions(folder / "predictions_test.parquet").table["study_id"]))
    assert not tested[0] & tested[1]
    assert tested[0] | tested[1] == set(read_studies(data / "studies.parquet")["study_id"])


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow"])
def test_trackers_write_into_the_run(data, tmp_path, tracker):
    folder = train("demo", options(data, f"trackers=[{tracker}]", "train.epochs=1"), run=tmp_path / "run")
    assert any(path.is_file() for path in (folder / tracker).rglob("*"))


def test_a_run_is_never_overwritten_and_a_changed_recipe_not_resumed(run, data):
    folder, _ = run
    with pytest.raises(InputError, match=r"not empty.*--resume"):
        train("demo", options(data), run=folder)
    with pytest.raises(InputError, match="not the one the run began with"):
        train("demo", options(data, "train.lr=0.5"), run=folder, resume=True)
    with pytest.raises(InputError, match="no run to resume"):
        train(None, run=folder / "nowhere", resume=True)


def test_a_bad_table_leaves_nothing_behind(tmp_path):
    with pytest.raises(InputError):
        train("demo", ["studies=nowhere.parquet"], run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_weights_stay_32_bit_floats(tmp_path, precision):
    with pytest.raises(InputError, match="bf16-mixed") as told:
        train("demo", [f"train.precision={precision}"], run=tmp_path / "run")
    assert precision in str(told.value)
    assert not (tmp_path / "run").exists()


def _start(data: Path, folder: Path, *more: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "hilum.cli", "train", *more, "--run", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=Path.cwd())


def _kill_and_resume(data: Path, folder: Path, kills: int, seed: int, more: list[str]) -> int:
    """Kill a run at random moments until it has died so often, then let it end; how often it really was killed alive."""
    moments, killed = random.Random(seed), 0
    arguments = ["demo", *options(data, *more)]
    while True:
        process = _start(data, folder, *arguments)
        arguments = ["--resume"] if (folder / "recipe.yaml").exists() else arguments
        if killed < kills:
            deadline = time.monotonic() + 60
            while not (folder / "recipe.yaml").exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            arguments = ["--resume"]
            time.sleep(moments.uniform(0.0, 5.0))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed += 1
                continue
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told.decode()
        return killed


@pytest.mark.parametrize(("kills", "epochs"), [(1, 8), pytest.param(10, 60, marks=pytest.mark.long)])
def test_killed_at_random_moments_ends_bit_for_bit_the_same(data, tmp_path, kills, epochs):
    more = [f"train.epochs={epochs}", "train.checkpoint_minutes=0.002"]
    one_thread = torch.get_num_threads()
    whole = _start(data, tmp_path / "whole", "demo", *options(data, *more))
    assert whole.wait(timeout=300) == 0
    killed = _kill_and_resume(data, tmp_path / "killed", kills, seed=kills, more=more)
    assert killed == kills, "the run ended before it was killed as often as it should be"
    weights = [load_file(tmp_path / name / "bundle" / "model.safetensors") for name in ("whole", "killed")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    logs = [
        pl.read_csv(tmp_path / name / "log.csv").drop("seconds", "studies_per_second") for name in ("whole", "killed")
    ]
    assert logs[0].equals(logs[1])
    left = [path for path in (tmp_path / "killed").rglob(".*") if path.is_file() and path.suffix == ".safetensors"]
    assert len(left) <= killed, "at most one half-written file per kill, under a hidden name, may be left"
    assert torch.get_num_threads() == one_thread


def test_two_processes_train_one_run(data, tmp_path):
    """Under torchrun each takes half of every batch; one folder comes out, and a model that predicts."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "hilum.cli",
               "train", "demo", *options(data, "train.devices=2"), "--run", str(tmp_path / "run")]  # fmt: skip
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    log = pl.read_csv(tmp_path / "run" / "log.csv")
    single = train("demo", options(data), run=tmp_path / "single")
    assert log["step"].to_list() == [step // 2 for step in pl.read_csv(single / "log.csv")["step"].to_list()]
    assert read_predictions(tmp_path / "run" / "predictions_test.parquet").table.height > 0
