"""Bundles: one flipped byte anywhere is found, identities are pinned, nothing half-written is left."""

import json
import shutil

import numpy as np
import pytest

from hilum.bundle import (
    Bundle,
    _seal,
    amend_bundle,
    read_bundle,
    read_weights,
    replace_operating_points,
    unlisted_files,
    write_bundle,
)
from hilum.errors import HilumError, InputError
from hilum.operating_points import OperatingPoint
from hilum.pixels.spec import PixelSpec

WEIGHTS = {"head.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "head.bias": np.zeros(2, np.float32)}


def bundle(**changes):
    facts = {
        "findings": ["Edema", "Mass"], "pixels": PixelSpec(64), "architecture": {"head": {"name": "linear"}},
        "positives": {"Edema": 5, "Mass": 1}, "known": {"Edema": 10, "Mass": 9}, "sources": ["test"],
        "operating_points": [OperatingPoint("Edema", 0.1 + 0.2, "max F1", "validation")],
    }  # fmt: skip
    return Bundle(**{**facts, **changes})


@pytest.fixture
def folder(tmp_path):
    write_bundle(bundle(), WEIGHTS, tmp_path / "bundle", recipe="a: 1\n", card="# card\n")
    return tmp_path / "bundle"


def test_comes_back_as_it_went(folder):
    found = read_bundle(folder)
    assert found.operating_points == bundle().operating_points
    assert (found.findings, found.pixels, found.known) == (["Edema", "Mass"], PixelSpec(64), {"Edema": 10, "Mass": 9})
    weights = read_weights(found)
    assert all((weights[key] == WEIGHTS[key]).all() for key in WEIGHTS)


def test_every_flipped_byte_is_found(folder):
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        for position in np.random.default_rng(0).integers(0, len(whole), 12):
            broken = bytearray(whole)
            broken[position] ^= 0x20
            file.write_bytes(broken)
            with pytest.raises(InputError) as caught:
                read_bundle(folder)
            assert caught.value.exit_code == 2
        file.write_bytes(whole)
    read_bundle(folder)


def test_a_missing_file_is_named(folder):
    (folder / "card.md").unlink()
    with pytest.raises(InputError, match=r"card.md"):
        read_bundle(folder)


def test_identity_follows_what_decides_the_logits_and_can_be_pinned(folder, tmp_path):
    first = read_bundle(folder).identity
    assert read_bundle(folder, expect=first[:10]).identity == first
    with pytest.raises(InputError, match="not abc"):
        read_bundle(folder, expect="abc")
    calibrated = [OperatingPoint("Edema", 0.9, "sensitivity 0.9", "validation")]
    others = {
        "points": (bundle(operating_points=calibrated), WEIGHTS, True),
        "pixels": (bundle(pixels=PixelSpec(96)), WEIGHTS, False),
        "order": (bundle(findings=["Mass", "Edema"]), WEIGHTS, False),
        "weights": (bundle(), {**WEIGHTS, "head.bias": np.ones(2, np.float32)}, False),
    }
    for name, (other, weights, same) in others.items():
        written = write_bundle(other, weights, tmp_path / name, recipe="", card="")
        assert (written.identity == first) is same, name


def test_no_bundle_here_suggests_the_one_beside(folder):
    with pytest.raises(InputError, match=r"[Dd]id you mean .*bundle"):
        read_bundle(folder.parent)
    with pytest.raises(InputError, match="not a bundle"):
        read_bundle(folder / "nowhere")


def test_nothing_half_written_is_left(tmp_path, folder):
    kept = read_bundle(folder).identity
    with pytest.raises((HilumError, TypeError, AttributeError)):
        write_bundle(bundle(operating_points=[None]), WEIGHTS, folder, recipe="", card="")
    assert read_bundle(folder).identity == kept
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    shutil.rmtree(folder)


def test_facts_are_json_that_anyone_can_read(tmp_path):
    architecture = {"head": {"name": "linear"}, "labels": {"closeness": [float("nan")] * 2}}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_bundle(bundle(architecture=architecture), WEIGHTS, tmp_path / "bundle", recipe="", card="")
    assert not (tmp_path / "bundle").exists()


def test_files_are_added_without_changing_what_the_model_is(folder):
    before = read_bundle(folder)

    def change(place):
        (place / "model.onnx").mkdir()
        (place / "model.onnx" / "read.onnx").write_bytes(b"graph")

    assert amend_bundle(before, change).identity == before.identity
    assert read_bundle(folder).identity == before.identity
    assert unlisted_files(folder) == []
    (folder / "model.onnx" / "read.onnx").write_bytes(b"grape")
    with pytest.raises(InputError, match=r"read.onnx: .*SHA-256"):
        read_bundle(folder)


def test_what_is_no_part_of_a_bundle_is_kept_and_told_apart(folder):
    (folder / "notes.txt").write_text("mine")
    found = read_bundle(folder)
    replace_operating_points(found, [OperatingPoint("Mass", 0.2, "max F1", "validation")])
    assert unlisted_files(folder) == [folder / "notes.txt"]
    assert (folder / "notes.txt").read_text() == "mine"
    assert read_bundle(folder).operating_points[0].finding == "Mass"


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret"])
def test_a_bundle_lists_nothing_outside_itself(folder, name):
    (folder.parent / "secret").write_text("x")
    facts = json.loads((folder / "bundle.json").read_text())
    facts["files"][name] = "0" * 64
    facts.pop("seal")
    facts["seal"] = _seal(facts)
    (folder / "bundle.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="outside it"):
        read_bundle(folder)


def test_pickles_are_not_opened(folder):
    """No loader here can run code: the weights are safetensors, and a pickle in their place is refused by its checksum."""
    import pickle

    (folder / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match="SHA-256"):
        read_bundle(folder)
