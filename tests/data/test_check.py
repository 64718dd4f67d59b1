"""`hilum check`: each planted fault is found and named, a clean table has none, and the files stay as they are."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from hilum.data.check import SIDE, _alike, check
from hilum.data.check_text import check_text
from hilum.data.duplicates import near_pairs
from hilum.tables import write_studies

PATIENTS = 30


def picture(seed: int, side: int = 96) -> np.ndarray:
    rough = np.random.default_rng(seed).integers(0, 256, (9, 9)).astype(np.uint8)
    return cv2.resize(rough, (side, side), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def made(tmp_path):
    """A clean table of 30 patients with two images each, and its pictures."""
    rows = []
    for i in range(2 * PATIENTS):
        path = tmp_path / f"i{i}.png"
        cv2.imwrite(str(path), picture(i))
        p = i // 2
        rows.append({"study_id": f"s{p}", "patient_id": f"p{p}", "image_id": f"i{i}", "path": str(path),
                     "view": ("PA", "LATERAL")[i % 2], "source": "test", "split": ("train", "test")[p % 2],
                     "age": 30.0 + p, "sex": "FM"[p % 2], "Edema": int(p < 12), "Mass": int(p % 3 == 0)})  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"age": pl.Float32, "Edema": pl.Int8, "Mass": pl.Int8})


def judged(table, tmp_path, level="study", **options):
    write_studies(table, tmp_path / "t.parquet", label_level=level)
    return check(tmp_path / "t.parquet", **options)


def text_of(remarks) -> str:
    return "\n".join(remark.sentence() for remark in remarks)


def changed(table, row, **values):
    at = pl.int_range(pl.len()) == row
    return table.with_columns(
        pl.when(at).then(pl.lit(v, dtype=table.schema[k])).otherwise(pl.col(k)).alias(k) for k, v in values.items()
    )


def test_a_clean_table_has_no_fault_and_right_counts(made, tmp_path):
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.glob("*.png")}
    report = judged(made, tmp_path)
    assert not report.faults
    assert not report.warnings
    assert (report.images, report.studies, report.patients) == (60, 30, 30)
    edema = report.tables["findings"].filter(finding="Edema").row(0, named=True)
    assert (edema["tier"], edema["positive"], edema["negative"], edema["patients"]) == ("head", 12, 18, 12)
    pair = report.tables["pairs"].row(0, named=True)
    assert pair["studies"] == 4
    assert pair["lift"] == pytest.approx(4 / (12 * 10 / 30))
    assert "Faults: none" in check_text(report)
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.glob("*.png")}


def test_faults_in_the_table_are_all_named(made, tmp_path):
    table = changed(made, 1, split="test")
    table = changed(table, 5, Edema=0)
    table = changed(table, 7, path="/nowhere/x.png")
    table = changed(table, 9, path=made["path"][8])
    table = changed(table, 10, image_id="1.0")
    table = changed(changed(table, 12, patient_id="3.24e+38"), 13, patient_id="3.24e+38")
    told = text_of(judged(table, tmp_path).faults)
    for name in ("p0 (test, train)", "s2 (Edema)", "/nowhere/x.png", made["path"][8], "1.0", "3.24e+38"):
        assert name in told
    assert "s2 (Edema)" not in text_of(judged(table, tmp_path, level="image").faults)


def test_faults_in_the_pixels_are_all_named(made, tmp_path):
    cv2.imwrite(made["path"][20], picture(0))  # p10 has the picture of p0
    cv2.imwrite(made["path"][3], picture(2))  # one patient twice: no fault
    (tmp_path / "i40.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    told = text_of(judged(made, tmp_path).faults)
    assert "i0 (p0) = i20 (p10)" in told
    assert "i40.png" in told
    assert "i2 " not in told


def test_near_duplicates_are_warned_of_and_unlike_pictures_are_not(made, tmp_path):
    noisy = picture(0, 128).astype(np.float64) * 0.97 + np.random.default_rng(0).normal(0, 2, (128, 128))
    cv2.imwrite(made["path"][20], np.clip(noisy, 0, 255).astype(np.uint8))
    report = judged(made, tmp_path)
    assert not report.faults
    assert [remark.items for remark in report.warnings] == [["i0 (p0) ~ i20 (p10)"]]


def test_the_search_finds_planted_pairs_among_many_and_grey_is_like_nothing():
    images = np.stack([picture(i, 64) for i in range(3000)])
    images[2000] = np.clip(images[10].astype(int) + 3, 0, 255)
    images[50] = images[60] = 0
    assert near_pairs(images, [str(i) for i in range(3000)]).tolist() == [[10, 2000]]


@pytest.mark.parametrize(
    "altered",
    [
        cv2.equalizeHist,
        lambda image: (255 * (image / 255) ** 0.8).astype(np.uint8),
        lambda image: cv2.resize(image, (200, 200), interpolation=cv2.INTER_AREA),
        lambda image: image[4:-4, 4:-4],
        lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], 0),
    ],
    ids=["equalised", "gamma", "resized", "cropped", "encoded"],
)
def test_altered_copies_are_found(altered):
    images = [picture(i, 1024) for i in range(20)]
    small = [cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA) for image in [*images, *map(altered, images)]]
    assert near_pairs(np.stack(small), [str(i) for i in range(40)]).tolist() == [[i, i + 20] for i in range(20)]


def test_warnings_on_labels_and_patients(made, tmp_path):
    table = made.with_columns(patient_id=pl.lit(None, dtype=pl.String), Edema=pl.lit(1, dtype=pl.Int8))
    told = text_of(judged(changed(table.with_columns(Mass=pl.lit(0, dtype=pl.Int8)), 0, age=1.0), tmp_path).warnings)
    for part in ("Patients are unknown", "more than half of their known entries: Edema", "positive patients: Mass (0)"):
        assert part in told


def test_a_cache_serves_the_pixels(made, tmp_path):
    from hilum.data.cache import build_cache

    cv2.imwrite(made["path"][20], picture(0))
    build_cache(made.head(40), tmp_path / "cache", size=80)
    before = sorted((tmp_path / "cache").iterdir())
    assert "i0 (p0) = i20 (p10)" in text_of(judged(made, tmp_path, cache=tmp_path / "cache").faults)
    assert sorted((tmp_path / "cache").iterdir()) == before


def test_the_verb_ends_with_0_or_2(made, tmp_path):
    for table, code in ((made, 0), (changed(made, 1, split="test"), 2)):
        write_studies(table, tmp_path / "t.parquet", label_level="study")
        words = [sys.executable, "-m", "hilum.cli", "check", str(tmp_path / "t.parquet"), "-o", str(tmp_path / "out")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert ("p0 (test, train)" in done.stdout) == bool(code)
        assert "<svg" in (tmp_path / "out" / "check.html").read_text()


def test_the_page_shows_what_was_measured():
    root = Path(__file__).parents[2]
    measured = json.loads((root / "bench/results/near_duplicates.json").read_text())
    assert measured["ours"] >= 0.95
    assert all(row["named, of different patients"] == 0 for row in measured["rows"] if "false alarms" in row)
    large, small = (row["alterations"] for row in measured["rows"][:2])
    page = (root / "docs/how-to/check.md").read_text()
    shown = page.partition("<!-- altered copies -->\n")[2].partition("<!-- /altered copies -->")[0].splitlines()[2:]
    assert shown == [
        f"| {one['what']} | {100 * one['cache 64']:.0f} % | {100 * two['cache 64']:.0f} % |"
        for one, two in zip(large, small)
    ]


def test_of_a_picture_little_is_held() -> None:
    """A digest and a sketch of 1 KB, where its pixels would be 4 KB: a table of 260,000 images fits a small machine."""
    count, rng = 4_096, np.random.default_rng(0)
    names = [str(number) for number in range(count)]
    held = pl.DataFrame({"image_id": names, "patient_id": names, "path": ["/gone.png"] * count})

    def pictures():
        for start in range(0, count, 256):
            images = rng.integers(0, 256, (256, SIDE, SIDE), dtype=np.uint8)
            images[0] = 7  # the first of each lot is the same picture
            yield list(range(start, start + 256)), images

    tracemalloc.start()
    faults, _ = _alike(held, pictures(), known=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(fault.items[0].split(" = ")) for fault in faults] == [count // 256]
    assert peak < 3_000 * count
