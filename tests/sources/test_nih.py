"""ChestX-ray14 in every release's clothes."""

import gzip
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from hilum.errors import InputError
from hilum.findings import FINDING_SETS
from hilum.sources.imported import Imported
from hilum.sources.nih import import_nih
from hilum.tables import check_studies

_COMMON = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient {sex},View Position,"
_SIZES = "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
HEADERS = {
    "2017": (_COMMON.format(sex="Gender") + _SIZES + ",", ","),
    "v2020": (_COMMON.format(sex="Gender") + _SIZES, ""),
    "sex": (_COMMON.format(sex="Sex") + _SIZES, ""),
    "comma in the rows alone": (_COMMON.format(sex="Sex") + _SIZES, ","),
}
ROWS = [
    "00000001_000.png,Cardiomegaly|Effusion,0,1,58,M,PA,2682,2749,0.143,0.143",
    "00000001_001.png,No Finding,1,1,59,M,AP,2682,2749,0.143,0.143",
    "00000002_000.png,Pleural_Thickening|Hernia,0,2,411,F,PA,2500,2048,0.168,0.168",
    "00000003_000.png,Mass,0,3,44,F,PA,2500,2048,0.168,0.168",
]


def image(path: Path, width: int = 16, height: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width), 90, np.uint8))


def table(root: Path, release: str = "v2020", rows: list[str] = ROWS, name: str = "Data_Entry_2017_v2020.csv") -> Path:
    header, end = HEADERS[release]
    content = "\n".join([header, *(row + end for row in rows)]) + "\n"
    root.mkdir(parents=True, exist_ok=True)
    file = root / name
    file.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for row in ROWS[:3]:
        image(tmp_path / "images" / row.split(",")[0])
    return tmp_path


def notes(imported: Imported) -> str:
    return "\n".join(imported.notes)


@pytest.mark.parametrize("release", HEADERS)
@pytest.mark.parametrize("name", ["Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv.gz"])
def test_every_release_reads_alike(root: Path, release: str, name: str) -> None:
    table(root, release, name=name)
    imported = import_nih(root)
    studies = check_studies(imported.studies)
    assert imported.label_level == "image"
    assert studies["image_id"].to_list() == studies["study_id"].to_list()
    assert studies["image_id"].to_list() == ["00000001_000", "00000001_001", "00000002_000"]
    assert studies["patient_id"].to_list() == ["1", "1", "2"]
    assert studies["view"].to_list() == studies["view_raw"].to_list() == ["PA", "AP", "PA"]
    assert studies["sex"].to_list() == ["M", "M", "F"]
    assert studies["age"].to_list() == [58, 59, None]
    assert all(Path(path).is_file() and Path(path).is_absolute() for path in studies["path"])
    shown = studies.select(FINDING_SETS["nih"]).to_dicts()
    assert [[name for name, value in row.items() if value] for row in shown] == [
        ["Cardiomegaly", "Pleural Effusion"],
        [],
        ["Pleural Thickening", "Hernia"],
    ]
    assert studies.select(FINDING_SETS["nih"]).null_count().sum_horizontal().item() == 0
    assert "3 of the 4 images" in notes(imported)
    assert "Known under another name: Effusion is Pleural Effusion." in notes(imported)
    assert "1 ages are missing, unreadable or above 110" in notes(imported)


def test_ages_of_the_first_release(root: Path) -> None:
    ages = ["058Y", "006M", "014D"]
    table(root, "2017", [row.replace(f",{row.split(',')[4]},", f",{age},") for row, age in zip(ROWS, ages)])
    assert import_nih(root).studies["age"].to_list() == pytest.approx([58, 0.5, 14 / 365.25])


def test_the_hash_is_that_of_the_unpacked_table(root: Path) -> None:
    content = table(root).read_bytes()
    (root / "Data_Entry_2017_v2020.csv").unlink()
    table(root, name="Data_Entry_2017_v2020.csv.gz")
    assert hashlib.sha256(content).hexdigest() in notes(import_nih(root))


def test_images_nested_anyhow_and_the_largest_copy_wins(tmp_path: Path) -> None:
    table(tmp_path)
    image(tmp_path / "images_001" / "images" / "00000001_000.png", 64, 64)
    image(tmp_path / "images_small" / "00000001_000.png", 8, 8)
    image(tmp_path / "z" / "y" / "x" / "00000001_000.png", 32, 32)
    image(tmp_path / "images" / "00000002_000.png")
    image(tmp_path / "images" / "somebody_else.png")
    image(tmp_path / "images" / "._00000003_000.png")
    imported = import_nih(tmp_path)
    assert [Path(path).relative_to(tmp_path).as_posix() for path in imported.studies["path"]] == [
        "images_001/images/00000001_000.png",
        "images/00000002_000.png",
    ]
    assert "1 images have several copies; the largest was taken: 1 of 64 x 64 px" in notes(imported)
    assert "such as somebody_else" in notes(imported)


def test_a_copy_that_is_broken_loses_and_a_broken_image_stays(root: Path) -> None:
    table(root)
    (root / "images_256").mkdir()
    (root / "images_256" / "00000001_000.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "images" / "00000001_001.png").write_bytes(b"")
    studies = import_nih(root).studies
    assert studies.height == 3
    assert "/images/" in studies["path"][0]


@pytest.mark.parametrize("ending", [".txt", ".txt.gz"])
def test_split_lists(root: Path, ending: str) -> None:
    table(root)
    for name, text in (("train_val_list", "00000001_000.png\n"), ("test_list", "00000002_000.png\r\n")):
        content = text.encode()
        (root / f"{name}{ending}").write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    imported = import_nih(root)
    assert imported.studies["split"].to_list() == ["train", None, "test"]
    assert "1 train (and validation), 1 test, 1 on neither list" in notes(imported)
    check_studies(imported.studies)


def test_without_split_lists_there_is_no_split(root: Path) -> None:
    table(root)
    imported = import_nih(root)
    assert "split" not in imported.studies.columns
    assert "no split column" in notes(imported)


def test_boxes_are_scaled_to_the_chosen_copy(root: Path) -> None:
    table(root)
    image(root / "images" / "00000001_000.png", 512, 256)
    (root / "BBox_List_2017.csv").write_text(
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
        "00000001_000.png,Infiltrate,100,200,40.5,80,,,\n"
        "00000003_000.png,Mass,1,2,3,4,,,\n"
    )
    imported = import_nih(root)
    assert imported.regions is not None
    assert imported.regions.rows() == [("00000001_000", "Infiltration", 50.0, 50.0, 70.25, 70.0)]
    assert "1 of 2 boxes" in notes(imported)


def test_an_unknown_label_is_named(root: Path) -> None:
    table(root, rows=[*ROWS[:2], ROWS[2].replace("Hernia", "Hernja")])
    with pytest.raises(InputError, match=r"00000002_000.*'Hernja'.*did you mean 'Hernia'"):
        import_nih(root)


def test_a_blank_label_is_unknown_not_absent(root: Path) -> None:
    table(root, rows=[ROWS[0], ROWS[1].replace("No Finding", "")])
    assert import_nih(root).studies["Mass"].to_list() == [0, None]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: None, "Put the label table"),
        (lambda root: table(root, rows=[ROWS[3]]), "none of the 1 images"),
        (lambda root: (root / "Data_Entry_2017.csv").write_text("a,b\n1,2\n"), "has no column 'Patient ID'"),
        (lambda root: (root / "Data_Entry_2017.csv.gz").write_bytes(b"no gzip"), "no whole gzip file"),
        (lambda root: (root / "Data_Entry_2017.csv").write_bytes(b""), "cannot be read"),
        (
            lambda root: [table(root)] + [(root / f"{n}_list.txt").write_text("x.png") for n in ("test", "train_val")],
            "both split lists",
        ),
        (
            lambda root: [
                table(root),
                (root / "BBox_List_2017.csv").write_text("a,b,c,d,e,f\n00000001_000.png,Mass,1,x,3,4\n"),
            ],
            "lacks a name or a number",
        ),
    ],
)
def test_errors_say_where_and_what_to_do(root: Path, spoil, says: str) -> None:  # type: ignore[no-untyped-def]
    spoil(root)
    with pytest.raises(InputError, match=says) as caught:
        import_nih(root)
    assert str(root) in str(caught.value)
    assert caught.value.do
