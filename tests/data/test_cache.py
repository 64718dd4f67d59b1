"""The cache: right pixels by id, whole after a kill, damage seen, nothing decoded twice."""

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import hilum
from hilum.cli import app
from hilum.data import cache as building
from hilum.data.cache import Cache, build_cache, cache, open_cache
from hilum.errors import InputError, MachineError
from hilum.findings import finding_set
from hilum.pixels.read import read_pixels
from hilum.pixels.spec import PixelSpec
from hilum.tables import write_studies

T = TypeVar("T")
SIZE = 32


@pytest.fixture
def images(tmp_path: Path) -> pl.DataFrame:
    """150 images of random greys: image_id, path."""
    return _draw(tmp_path / "images", 150)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_SHARD_IMAGES", 64)


def _draw(folder: Path, count: int, first: int = 0) -> pl.DataFrame:
    folder.mkdir(exist_ok=True)
    rows = []
    for number in range(first, first + count):
        path = folder / f"{number:03d}.png"
        values = np.random.default_rng(number).integers(0, 256, (40, 36), dtype=np.uint8)
        cv2.imwrite(str(path), values)
        rows.append({"image_id": f"id {number}", "path": str(path)})
    return pl.DataFrame(rows)


class Count:
    """A progress that counts what was decoded."""

    def __init__(self) -> None:
        self.decoded = 0

    def __call__(self, items: Iterable[T], *, total: int, label: str, unit: str = "images") -> Iterator[T]:
        for item in items:
            self.decoded += 1
            yield item


def _right(cache: Cache, images: pl.DataFrame) -> None:
    rows = cache.rows(images["image_id"].to_list())
    assert (rows >= 0).all()
    assert len(set(rows.tolist())) == images.height
    expected = np.stack([read_pixels(path, cache.spec) for path in images["path"]])
    assert (cache.images(rows) == expected).all()


def test_images_come_back_by_id_in_any_order(images: pl.DataFrame, tmp_path: Path) -> None:
    held = build_cache(images, tmp_path / "cache", size=SIZE, workers=1)
    _right(held, images)
    assert sorted(held.image_ids) == sorted(images["image_id"])
    assert len(list((tmp_path / "cache").glob("shard-*.npy"))) == 3
    mixed = images.sample(fraction=1.0, shuffle=True, seed=0).head(40)
    _right(open_cache(tmp_path / "cache"), mixed)
    twice = held.rows(["id 5", "id 140", "id 5"])
    assert (held.images(twice)[0] == held.images(twice)[2]).all()
    out = np.empty((3, SIZE, SIZE), np.uint8)
    assert held.images(twice, out=out) is out
    assert held.images(np.zeros(0, np.int64)).shape == (0, SIZE, SIZE)
    packed = pickle.dumps(held)
    assert len(packed) < 50_000  # the names, not the pixels
    _right(pickle.loads(packed), images)
    assert held.rows(["id 0", "nobody"]).tolist()[1] == -1
    with pytest.raises(InputError, match="does not hold"):
        held.images(held.rows(["nobody"]))
    with pytest.raises(InputError, match="no row 150"):
        held.images(np.array([150]))


def test_several_threads_make_the_same_cache(images: pl.DataFrame, tmp_path: Path) -> None:
    one = build_cache(images, tmp_path / "one", size=SIZE, workers=1)
    two = build_cache(images, tmp_path / "two", size=SIZE, workers=2)
    for name in ("shard-00000.npy", "shard-00002.npy"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert one.image_ids == two.image_ids
    assert json.loads((tmp_path / "two" / "cache.json").read_text())["images"] == 150


def test_a_second_build_decodes_only_what_is_new_or_changed(images: pl.DataFrame, tmp_path: Path) -> None:
    folder, count = tmp_path / "cache", Count()
    build_cache(images.head(50), folder, size=SIZE, progress=count)
    assert count.decoded == 50
    build_cache(images.head(50), folder, size=SIZE, progress=count)
    assert count.decoded == 50
    held = build_cache(images, folder, size=SIZE, progress=count)
    assert count.decoded == 150
    _right(held, images)
    cv2.imwrite(images["path"][7], np.full((20, 30), 77, np.uint8))
    held = build_cache(images, folder, size=SIZE, progress=count)
    assert count.decoded == 151
    _right(held, images)
    assert len(held.image_ids) == 150


def test_files_that_cannot_be_read_are_listed_and_tried_again_when_mended(images: pl.DataFrame, tmp_path: Path) -> None:
    good = Path(images["path"][3]).read_bytes()
    Path(images["path"][3]).write_bytes(good[:-20])
    Path(images["path"][4]).unlink()
    Path(images["path"][5]).write_text("no image")
    folder, count = tmp_path / "cache", Count()
    held = build_cache(images, folder, size=SIZE, progress=count)
    assert held.unreadable.columns == ["image_id", "path", "reason"]
    reasons = dict(held.unreadable.select("image_id", "reason").iter_rows())
    assert reasons.keys() == {"id 3", "id 4", "id 5"}
    assert "cut off" in reasons["id 3"]
    assert reasons["id 4"] == "no such file"
    assert "not an image" in reasons["id 5"]
    assert held.rows(["id 3", "id 4", "id 5"]).tolist() == [-1, -1, -1]
    _right(held, images.filter(~pl.col("image_id").is_in(list(reasons))))
    assert build_cache(images, folder, size=SIZE, progress=count).unreadable.height == 3
    assert count.decoded == 149  # the missing one was not tried, and nothing twice
    Path(images["path"][3]).write_bytes(good)
    held = build_cache(images, folder, size=SIZE, progress=count)
    assert count.decoded == 150
    assert held.unreadable["image_id"].sort().to_list() == ["id 4", "id 5"]
    _right(held, images.filter(~pl.col("image_id").is_in(["id 4", "id 5"])))


def test_a_good_file_that_goes_bad_is_no_longer_held_and_one_that_is_gone_is(
    images: pl.DataFrame, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    build_cache(images, folder, size=SIZE)
    Path(images["path"][0]).write_text("broken")
    Path(images["path"][1]).unlink()
    held = build_cache(images, folder, size=SIZE)
    assert held.rows(["id 0"]).tolist() == [-1]
    assert held.rows(["id 1"])[0] >= 0
    assert held.unreadable["image_id"].to_list() == ["id 0"]


KILLED = """
import os, signal, sys
import polars as pl
from hilum.data import cache as building

def progress(items, *, total, label, unit="images"):
    for number, item in enumerate(items):
        if number == 100:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item

building._SHARD_IMAGES = 64
building.build_cache(pl.read_parquet(sys.argv[1]), sys.argv[2], size=32, workers=1, progress=progress)
"""


def test_a_killed_build_goes_on_where_it_stopped(images: pl.DataFrame, tmp_path: Path) -> None:
    images.write_parquet(tmp_path / "images.parquet")
    folder, count = tmp_path / "cache", Count()
    command = [sys.executable, "-c", KILLED, str(tmp_path / "images.parquet"), str(folder)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (folder / ".shard-00001.npy.left.npy").write_bytes(b"half a shard")
    np.save(folder / "shard-00001.npy", np.zeros((3, SIZE, SIZE), np.uint8))  # killed before its list was written
    assert len(open_cache(folder).image_ids) == 64
    held = build_cache(images, folder, size=SIZE, progress=count)
    assert count.decoded == 150 - 64
    _right(held, images)
    held.verify()
    assert not list(folder.glob(".shard*"))


def test_an_interrupt_keeps_what_is_decoded(images: pl.DataFrame, tmp_path: Path) -> None:
    def impatient(items: Iterable[T], *, total: int, label: str, unit: str = "images") -> Iterator[T]:
        for number, item in enumerate(items):
            if number == 100:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        build_cache(images, tmp_path / "cache", size=SIZE, progress=impatient)
    assert len(open_cache(tmp_path / "cache").image_ids) == 100


def test_damage_is_seen_and_mended(images: pl.DataFrame, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    build_cache(images, folder, size=SIZE).verify()
    shard = folder / "shard-00001.npy"
    data = bytearray(shard.read_bytes())
    data[5000] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"shard-00001\.npy.*Delete"):
        open_cache(folder).verify()
    shard.unlink()  # what the advice says
    _mended(folder, images)
    cut = folder / "shard-00000.npy"
    cut.write_bytes(cut.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"shard-00000\.npy.*cut off.*Build"):
        open_cache(folder)
    _mended(folder, images)


def _mended(folder: Path, images: pl.DataFrame) -> None:
    with pytest.raises(InputError, match="lost"):
        open_cache(folder)
    count = Count()
    held = build_cache(images, folder, size=SIZE, progress=count)
    assert count.decoded == 64
    held.verify()
    _right(held, images)


def test_another_kind_of_images_is_refused(images: pl.DataFrame, tmp_path: Path) -> None:
    build_cache(images.head(3), tmp_path / "cache", size=SIZE)
    with pytest.raises(InputError, match="32 px, pad, as_is, not 32 px, crop, as_is"):
        build_cache(images.head(3), tmp_path / "cache", size=SIZE, fit="crop")
    assert open_cache(tmp_path / "cache").spec == PixelSpec(SIZE)
    with pytest.raises(InputError, match="no cache here"):
        open_cache(tmp_path)
    (tmp_path / "cache" / "cache.json").write_text("{}")
    with pytest.raises(InputError, match=r"not the cache\.json"):
        open_cache(tmp_path / "cache")


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_decoded(
    images: pl.DataFrame, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file stands where a folder is needed"):
        build_cache(images, tmp_path / "file", size=SIZE)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_leave_serves_what_it_holds_and_takes_nothing_new(
    images: pl.DataFrame, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    build_cache(images.head(9), folder, size=SIZE)
    folder.chmod(0o555)
    try:
        _right(build_cache(images.head(9), folder, size=SIZE), images.head(9))
        with pytest.raises(InputError, match="cannot be written"):
            build_cache(images, folder, size=SIZE)
    finally:
        folder.chmod(0o755)


def test_a_full_disk_is_the_machine_s_fault(
    images: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(MachineError, match="no space"):
            build_cache(images, tmp_path / "cache", size=SIZE, workers=1)
    assert not list((tmp_path / "cache").glob("*.npy"))
    _right(build_cache(images, tmp_path / "cache", size=SIZE), images)


def test_the_verb_takes_a_path_or_a_frame(images: pl.DataFrame, tmp_path: Path) -> None:
    studies = images.with_columns(
        study_id=pl.col("image_id"), patient_id=pl.col("image_id"), view=pl.lit("PA"), source=pl.lit("here")
    )
    studies.write_parquet(tmp_path / "studies.parquet")
    assert hilum.cache is cache
    first = cache(tmp_path / "studies.parquet", tmp_path / "cache", size=SIZE)
    assert cache(studies, tmp_path / "cache", size=SIZE).image_ids == first.image_ids


@pytest.mark.parametrize(
    ("source", "findings", "told"),
    [
        ("hospital", finding_set("nih"), "hilum train nih_quick studies="),
        ("phantom", ("Mass",), "hilum train demo findings=null studies="),
        ("hospital", ("Mass",), "hilum recipes` prints, or write your own.\n\nNext: hilum train RECIPE studies="),
    ],
)
def test_the_verb_names_a_recipe_that_fits(
    images: pl.DataFrame, tmp_path: Path, source: str, findings: tuple[str, ...], told: str
) -> None:
    ids = images.head(2).with_columns(
        study_id="image_id", patient_id="image_id", view=pl.lit("PA"), source=pl.lit(source)
    )
    labels = [pl.lit(0, dtype=pl.Int8).alias(name) for name in findings]
    write_studies(ids.with_columns(labels), tmp_path / "t.parquet", label_level="study")
    words = ["cache", str(tmp_path / "t.parquet"), "-o", str(tmp_path / "cache"), "--size", "32"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert told in result.output
