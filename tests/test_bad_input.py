"""Bad input at the command line: one sentence that helps, the right exit code, nothing half-written, nothing lost."""

import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from hilum.inference.predict import load
from hilum.training.run import train
from tests.small import small_studies


def hilum(*words: object, cwd: Path | None = None) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of the command."""
    done = subprocess.run(
        [sys.executable, "-m", "hilum.cli", *map(str, words)], capture_output=True, text=True, cwd=cwd, check=False
    )
    return done.returncode, done.stdout, done.stderr


def told(error: str) -> str:
    """The one sentence that the command ended with; never a traceback."""
    assert "Traceback" not in error
    last = error.strip().splitlines()[-1]
    assert last.startswith("hilum: ")
    return last


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    _, images = small_studies(patients=8)
    for name, place in images.place.items():
        cv2.imwrite(str(folder / f"{name}.png"), images.pixels[place])
    return folder


@pytest.fixture(scope="module")
def studies(pictures, tmp_path_factory) -> Path:
    table, _ = small_studies(patients=8)
    place = tmp_path_factory.mktemp("table")
    table.with_columns(image=table["image_id"] + ".png").drop("path", "image_id", "source").write_csv(
        place / "labels.csv"
    )
    code, _, error = hilum(
        "import", "folder", pictures, "--table", place / "labels.csv", "-o", place / "studies.parquet"
    )
    assert code == 0, error
    return place / "studies.parquet"


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting a small disk needs more rights than these tests have")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def read_only(tmp_path) -> Iterator[Path]:
    place = tmp_path / "frozen"
    place.mkdir()
    if os.geteuid():
        place.chmod(0o555)
        yield place
        place.chmod(0o755)
    elif subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)], capture_output=True, check=False
    ).returncode:
        pytest.skip("root may write anywhere, and mounting a read-only disk needs more rights than these tests have")
    else:
        yield place
        subprocess.run(["umount", str(place)], check=True)


def test_pictures_that_are_none_are_counted_with_path_and_reason(pictures, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(pictures, folder)
    (folder / "notes.png").write_text("no picture")
    header = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    (folder / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    )
    assert hilum("import", "folder", folder, "--patients", "unknown", "-o", tmp_path / "s.parquet")[0] == 0
    code, out, error = hilum("cache", tmp_path / "s.parquet", "--size", 32, "-o", tmp_path / "cache")
    assert code == 0
    count = len(list(pictures.glob("*.png")))
    assert f"{count} images of 32 x 32 px" in out
    assert "2 images cannot be read" in error
    assert "notes.png: this is not an image file" in error
    assert "bomb.png: the header says 50,000 x 50,000 pixels" in error


def test_a_table_without_patients(pictures, tmp_path):
    (tmp_path / "t.csv").write_text("image,Edema\n" + "".join(f"{path.name},1\n" for path in pictures.glob("*.png")))
    code, _, error = hilum(
        "import", "folder", pictures, "--table", tmp_path / "t.csv", "-o", tmp_path / "out" / "s.parquet"
    )
    assert code == 2
    assert "--patients unknown" in told(error)
    assert not (tmp_path / "out" / "s.parquet").exists()


def test_a_misspelt_key_and_a_table_that_is_not_there(tmp_path):
    code, _, error = hilum("train", "nih_quick", "train.epoch=3", cwd=tmp_path)
    assert code == 2
    assert "did you mean 'epochs'" in told(error)
    code, _, error = hilum("train", "nih_quick", cwd=tmp_path)
    assert code == 2
    assert "hilum import" in told(error)
    assert files(tmp_path) == set()


def test_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    for source in ("nih", "folder"):
        code, _, error = hilum("import", source, tmp_path / "empty", "-o", tmp_path / "s.parquet")
        assert code == 2, source
        assert str(tmp_path / "empty") in told(error)
    assert files(tmp_path) == {"empty"}


def test_a_read_only_folder(studies, read_only):
    for words in (("cache", studies, "-o", read_only / "cache"), ("import", "phantom", "--studies", 2, "-o", read_only / "p"),
                  ("train", "nih_quick", f"studies={studies}", "findings=null", "--run", read_only / "run")):  # fmt: skip
        code, _, error = hilum(*words)
        assert code == 2, words
        assert "cannot be written" in told(error)
        assert "Choose a folder that you may write to" in error


def test_a_full_disk_is_the_machines_fault_and_leaves_nothing_half_written(studies, small_disk):
    code, _, error = hilum("cache", studies, "--size", 512, "-o", small_disk / "cache")
    assert code == 1
    assert "no space is left" in told(error)
    left = [path for path in small_disk.rglob("*") if path.is_file() and path.stat().st_size > 0]
    assert [path.name for path in left] in ([], ["cache.json"])
    code, _, error = hilum("import", "phantom", "--studies", 200, "--size", 256, "-o", small_disk / "phantom")
    assert code == 1
    assert "no space is left" in told(error)


def test_a_bundle_with_one_flipped_byte(studies, pictures, tmp_path):
    options = [f"studies={studies}", f"cache.folder={tmp_path / 'cache'}", "cache.size=32", "findings=null", "train.epochs=1",
               "split.folds=null", "split.test=0.3", "split.valid=0.3"]  # fmt: skip
    bundle = train("nih_quick", options, run=tmp_path / "run") / "bundle"
    weights = bytearray((bundle / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1
    (bundle / "model.safetensors").write_bytes(weights)
    code, _, error = hilum("predict", bundle, pictures, "-o", tmp_path / "p.parquet")
    assert code == 2
    assert "model.safetensors" in told(error)
    assert "SHA-256" in error
    assert not (tmp_path / "p.parquet").exists()
    weights[len(weights) // 2] ^= 1
    (bundle / "model.safetensors").write_bytes(weights)
    assert load(bundle).findings


def test_predictions_of_other_studies(studies, tmp_path):
    code, _, error = hilum("evaluate", studies, studies, "-o", tmp_path / "report")
    assert code == 2
    assert "is a studies table, not predictions" in told(error)
    code, _, error = hilum("evaluate", studies)
    assert code == 2
    assert "study table is missing" in told(error)
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "nih_quik"), "id you mean 'nih_quick'"),
        (("import", "nhi", "."), "id you mean 'nih'"),
        (("predict", ".", "."), "not a bundle"),
        (("train", "--resume", "--run", "nowhere"), "no run to resume"),
        (("cache", "nowhere.parquet"), "no such file"),
        (("import", "phantom", "--studys", "3", "-o", "x"), "id you mean 'studies'"),
    ],
)
def test_likely_mistakes(words, said, tmp_path):
    code, _, error = hilum(*words, cwd=tmp_path)
    assert code == 2
    assert said in told(error)
    assert files(tmp_path) == set()


def test_the_pixels_of_originals_are_never_touched(pictures, studies, tmp_path):
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in pictures.iterdir()}
    assert hilum("cache", studies, "--size", 32, "-o", tmp_path / "cache")[0] == 0
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in pictures.iterdir()} == before
    assert np.load(next((tmp_path / "cache").glob("*.npy"))).dtype == np.uint8
