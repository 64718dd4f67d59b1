"""A person's own folder: any layout, any column names, long ids, and errors that help."""

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from hilum.errors import InputError
from hilum.sources.folder import import_folder
from hilum.sources.imported import Imported
from hilum.sources.matching import match_files
from hilum.tables import check_studies, finding_names

LONG = "324094858403945948394859438594385943851"  # PadChest's kind of id, 39 digits
NEXT = LONG[:-1] + "2"


def images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / name), np.full((8, 8), 90, np.uint8))


def write(root: Path, text: str, name: str = "labels.csv") -> str:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return name


def notes(imported: Imported) -> str:
    return "\n".join(imported.notes)


def test_columns_are_guessed_and_told(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.jpg", "c.png")
    write(
        tmp_path,
        "PatientID,StudyInstanceUID,FileName,ViewPosition,Patient Age,GENDER,effusion,pleural_thickening,Comment\n"
        "p1,s1,a.png,PA,57Y,male,1,0,fine\n"
        "p1,s1,b.jpg,LL,57,M,1.0,,\n"
        "p2,s2,c,AP_horizontal,200,x,-1,0,x\n",
    )
    imported = import_folder(tmp_path, table="labels.csv")
    studies = check_studies(imported.studies)
    assert studies["patient_id"].to_list() == ["p1", "p1", "p2"]
    assert studies["study_id"].to_list() == ["s1", "s1", "s2"]
    assert studies["image_id"].to_list() == ["a", "b", "c"]
    assert studies["view"].to_list() == ["PA", "LATERAL", "AP"]
    assert studies["view_raw"].to_list() == ["PA", "LL", "AP_horizontal"]
    assert studies["age"].to_list() == [57, 57, None]
    assert studies["sex"].to_list() == ["M", "M", None]
    assert finding_names(studies) == ["Pleural Effusion", "Pleural Thickening"]
    assert studies["Pleural Effusion"].to_list() == [1, 1, -1]
    assert studies["Pleural Thickening"].to_list() == [0, None, 0]
    said = notes(imported)
    for word in ("image = 'FileName'", "patient = 'PatientID'", "Columns left out: Comment", "be read as sex"):
        assert word in said


def test_named_columns_win_over_guesses(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    write(tmp_path, "image_id,shot,who,patient_id,Mass\nx,a,1,7,0\ny,b,2,7,1\n")
    imported = import_folder(tmp_path, table="labels.csv", image_column="shot", patient_column="who")
    assert imported.studies["patient_id"].to_list() == ["1", "2"]
    assert imported.studies["image_id"].to_list() == ["a", "b"]


def test_long_ids_stay_apart(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    write(tmp_path, f"image,PatientID\na,{LONG}\nb,{NEXT}\n")
    assert import_folder(tmp_path, table="labels.csv").studies["patient_id"].to_list() == [LONG, NEXT]


@pytest.mark.parametrize("rounded", ["3.24e+38", "3.24E+38", "1e+20"])
def test_rounded_ids_are_refused(tmp_path: Path, rounded: str) -> None:
    images(tmp_path, "a.png", "b.png")
    write(tmp_path, f"image,PatientID\na,{rounded}\nb,{LONG}\n")
    with pytest.raises(InputError, match=r"'PatientID' holds .*rounded.*as text"):
        import_folder(tmp_path, table="labels.csv")


def test_a_parquet_table_and_its_float_ids(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    table = pl.DataFrame({"image": ["a", "b"], "patient": [10000032, 2], "Mass": [1.0, None], "Edema": [True, False]})
    table.with_columns(boxes=pl.lit([1.0])).write_parquet(tmp_path / "t.parquet")
    studies = import_folder(tmp_path, table="t.parquet").studies
    assert studies["patient_id"].to_list() == ["10000032", "2"]
    assert studies["Mass"].to_list() == [1, None]
    assert studies["Edema"].to_list() == [1, 0]
    table.with_columns(patient=pl.Series([float(LONG), float(NEXT)])).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="rounded"):
        import_folder(tmp_path, table="t.parquet")


@pytest.mark.parametrize("cell", ["p1/s1/x.png", "p1/s1/x", "./p1/s1/x.png", "data/p1/s1/x.png", r"p1\s1\x.png"])
def test_paths_below_the_folder(tmp_path: Path, cell: str) -> None:
    root = tmp_path / "data"
    images(root, "p1/s1/x.png", "p2/s1/x.png")
    write(root, f"path\tpatient\n{cell}\t1\n", "t.tsv")
    imported = import_folder(root, table="t.tsv")
    assert imported.studies["path"].to_list() == [str(root.resolve() / "p1/s1/x.png")]
    assert "1 files have no row and were left out, such as 'p2/s1/x.png'" in notes(imported)


def test_a_path_of_another_folder_is_not_this_file(tmp_path: Path) -> None:
    images(tmp_path, "p1/x.png")
    write(tmp_path, "path,patient\np2/x.png,1\n")
    with pytest.raises(InputError, match=r"no row fits .*'p2/x.png'.*'p1/x.png'.*--image-column"):
        import_folder(tmp_path, table="labels.csv")


def test_a_path_may_start_further_down(tmp_path: Path) -> None:
    images(tmp_path, "images/p1/x.png", "images/p2/x.png")
    write(tmp_path, "path,patient\np2/x.png,1\n")
    assert import_folder(tmp_path, table="labels.csv").studies["path"][0].endswith("images/p2/x.png")


def test_a_file_on_the_spot_wins_over_a_deeper_one(tmp_path: Path) -> None:
    images(tmp_path, "p1/x.png", "old/p1/x.png")
    write(tmp_path, "path,patient\np1/x.png,1\n")
    assert import_folder(tmp_path, table="labels.csv").studies["path"].to_list() == [str(tmp_path / "p1/x.png")]


def test_ambiguous_names_are_refused(tmp_path: Path) -> None:
    images(tmp_path, "p1/x.png", "p2/x.png")
    write(tmp_path, "file,patient\nx.png,1\n")
    with pytest.raises(InputError, match=r"'x.png' fits 2 files, such as 'p1/x.png' and 'p2/x.png'"):
        import_folder(tmp_path, table="labels.csv")


def test_thousands_of_files_of_one_name_are_found_quickly(tmp_path: Path) -> None:
    files = [tmp_path / f"train/patient{k:05}/study1/view1_frontal.jpg" for k in range(20_000)]
    cells = [f"CheXpert-v1.0/train/patient{k:05}/study1/view1_frontal.jpg" for k in range(20_000)]
    assert match_files(cells, files, tmp_path, tmp_path / "t.csv") == [None] * 20_000
    assert match_files([cell[14:] for cell in cells], files, tmp_path, tmp_path / "t.csv") == files


def test_a_table_as_spreadsheets_and_r_write_it(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    (tmp_path / "t.csv").write_bytes(b'\xef\xbb\xbf"file";"patient";"Mass";""\r\n"a";"1";"NA";"1"\r\n"b";"2";1;"2"\r\n')
    imported = import_folder(tmp_path, table="t.csv")
    assert finding_names(imported.studies) == ["Mass"]
    assert imported.studies["Mass"].to_list() == [None, 1]


def test_images_of_the_same_name_get_their_path_as_id(tmp_path: Path) -> None:
    images(tmp_path, "p1/s1/v.png", "p2/s1/v.png")
    write(tmp_path, "path,patient,study\np1/s1/v.png,p1,s1\np2/s1/v.png,p2,s1\n")
    imported = import_folder(tmp_path, table="labels.csv")
    assert imported.studies["image_id"].to_list() == ["p1/s1/v", "p2/s1/v"]
    assert imported.studies["study_id"].to_list() == ["p1/s1", "p2/s1"]
    assert "PATIENT/STUDY" in notes(imported)
    check_studies(imported.studies)


def test_rows_without_file_and_files_without_row_are_counted(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    write(tmp_path, "file,patient,Mass\na.png,1,0\nz.png,2,1\n")
    imported = import_folder(tmp_path, table="labels.csv")
    assert imported.studies.height == 1
    said = notes(imported)
    assert "1 of 2 rows" in said
    assert "such as 'z.png'" in said
    assert "such as 'b.png'" in said


@pytest.mark.parametrize(("second", "level"), [("1", "study"), ("0", "image"), ("", "image")])
def test_the_level_of_the_labels(tmp_path: Path, second: str, level: str) -> None:
    images(tmp_path, "a.png", "b.png")
    write(tmp_path, f"file,patient,study,Mass\na,1,s,1\nb,1,s,{second}\n")
    assert import_folder(tmp_path, table="labels.csv").label_level == level


def test_without_a_table_each_image_is_a_study(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "deep/er/b.JPG")
    imported = import_folder(tmp_path, "unknown")
    studies = check_studies(imported.studies)
    assert studies["study_id"].to_list() == ["a", "b"]
    assert studies["patient_id"].null_count() == 2
    assert finding_names(studies) == []


def test_unknown_patients_need_no_column(tmp_path: Path) -> None:
    images(tmp_path, "a.png")
    write(tmp_path, "file,Mass\na.png,1\n")
    assert import_folder(tmp_path, "unknown", table="labels.csv").studies["patient_id"].to_list() == [None]
    with pytest.raises(InputError, match=r"labels.csv.*--patient-column, or say --patients unknown"):
        import_folder(tmp_path, table="labels.csv")


def test_links_are_followed_once(tmp_path: Path) -> None:
    images(tmp_path / "real", "a.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "images").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "round").symlink_to(root)
    assert import_folder(root, "unknown").studies.height == 1


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("file,patient\na,1\n", {"image_column": "fil"}, r"no column 'fil' \(--image-column\).*did you mean 'file'"),
        ("thing,patient\na,1\n", {}, r"no column looks like a file name among 'thing', 'patient'.*--image-column"),
        ("file,patient\na,1\na.png,1\n", {}, r"2 rows name the image 'a.png'"),
        ("file,patient,Effusion,pleural effusion\na,1,1,0\n", {}, r"two columns are the finding 'Pleural Effusion'"),
        ("file,patient,Mass,Mass\na,1,1,0\n", {}, r"two columns are called 'Mass'"),
        ("file,patient\n", {}, "no rows"),
        ("file,patient\na,1\n", {"table": "label.csv"}, r"no such table.*did you mean 'labels.csv'"),
        ("file,patient\na,1\n", {"table": "a.png"}, r"save it as one of .csv"),
        ("file,patient\na,1\n", {"table": True}, r"--table has no value"),
    ],
)
def test_errors(tmp_path: Path, text: str, options: dict[str, object], says: str) -> None:
    images(tmp_path, "a.png")
    write(tmp_path, text)
    with pytest.raises(InputError, match=f"(?i){says}") as caught:
        import_folder(tmp_path, **{"table": "labels.csv", **options})  # type: ignore[arg-type]
    assert caught.value.do


def test_empty_folders_and_missing_tables(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no PNG, JPEG or DICOM file"):
        import_folder(tmp_path, "unknown")
    images(tmp_path, "a.png")
    write(tmp_path, "file\na\n")
    with pytest.raises(InputError, match=r"--table \(tables in the folder: labels.csv\), or say --patients unknown"):
        import_folder(tmp_path)
