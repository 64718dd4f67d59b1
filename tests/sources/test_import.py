"""One door to all sources: options checked first, tables written where they are expected."""

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from hilum.errors import HilumError, InputError
from hilum.sources import SOURCES, import_studies
from hilum.tables import read_studies, studies_metadata


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    for name in "ab":
        cv2.imwrite(str(root / f"{name}.png"), np.full((8, 8), 90, np.uint8))
    (root / "t.csv").write_text("file,patient,Mass\na,1,0\nb,2,1\n")
    return root


def test_a_folder_or_a_file(data: Path, tmp_path: Path) -> None:
    table, imported = import_studies("folder", data, tmp_path / "out", table="t.csv")
    assert table == tmp_path / "out" / "studies.parquet"
    assert read_studies(table).equals(imported.studies.select(read_studies(table).columns))
    assert studies_metadata(table)["label_level"] == "study"
    table, _ = import_studies("folder", data, tmp_path / "deep" / "mine.parquet", table="t.csv")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["mine.parquet"]


def test_the_phantom_draws_beneath_the_output(tmp_path: Path) -> None:
    table, imported = import_studies("phantom", None, tmp_path / "out" / "p.parquet", studies=3, size=32, workers=1)
    beside = {path.name for path in table.parent.iterdir()}
    assert beside == {"p.parquet", "p.truth.parquet", "p.regions.parquet", "images"}
    assert studies_metadata(table)["note"] == imported.note
    assert read_studies(table.with_suffix(".truth.parquet")).height == read_studies(table).height
    assert pl.read_parquet_metadata(table.with_suffix(".regions.parquet"))["hilum"] == "regions"
    _, again = import_studies("phantom", None, tmp_path / "f", studies=2, size=32, workers=1, patients="unknown")
    assert again.truth is not None
    for frame in (again.studies, again.truth, read_studies(tmp_path / "f" / "truth.parquet")):
        assert frame["patient_id"].null_count() == frame.height
    assert "Patients are unknown" in again.notes[-1]


def test_tables_of_an_earlier_import_are_pointed_out(data: Path, tmp_path: Path) -> None:
    import_studies("phantom", None, tmp_path, studies=1, size=32, workers=1)
    _, imported = import_studies("folder", data, tmp_path, patients="unknown", table="t.csv")
    assert sum("earlier import" in note for note in imported.notes) == 2


@pytest.mark.parametrize(
    ("source", "root", "options", "says"),
    [
        ("fodler", ".", {}, r"no source 'fodler'\. Did you mean 'folder'"),
        ("folder", ".", {"patient_colum": "x"}, r"'patient_colum' is not an option .*'patient_column'"),
        ("nih", ".", {"table": "x"}, r"'table' is not an option of source 'nih'"),
        ("phantom", None, {"studies": "many"}, r"'studies' of source 'phantom' is 'many'"),
        ("phantom", ".", {}, r"one argument too many"),
        ("nih", None, {}, r"nih needs the folder"),
        ("nih", "nowhere", {}, r"nowhere: there is no such folder"),
        ("nih", "pyproject.toml", {}, r"a file, not a folder"),
        ("folder", ".", {"patients": "some"}, r"Say known or unknown"),
    ],
)
def test_errors_before_anything_slow(
    source: str,
    root: str | None,
    options: dict[str, object],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    with pytest.raises(InputError, match=says):
        import_studies(source, root, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HilumError, match="file"):
        import_studies("folder", data, tmp_path / "file", table="t.csv")
    (tmp_path / "x.parquet").mkdir()
    with pytest.raises(InputError, match="a folder has this name"):
        import_studies("folder", data, tmp_path / "x.parquet", table="t.csv")


def test_every_source_says_what_it_is() -> None:
    for build in SOURCES.values():
        assert build.__doc__
