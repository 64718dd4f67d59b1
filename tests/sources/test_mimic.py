"""MIMIC-CXR-JPG with every release of labels."""

import csv
import gzip
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import pytest

from hilum.errors import InputError
from hilum.findings import FINDING_SETS
from hilum.sources import import_studies
from hilum.sources.imported import Imported
from hilum.sources.mimic import import_mimic
from hilum.tables import check_studies, finding_names, read_studies, studies_metadata

# dicom_id, subject_id, study_id, ViewPosition, side
IMAGES = [
    ("aa-1", "10000032", "50414267", "PA", "train"),
    ("aa-2", "10000032", "50414267", "LL", "train"),
    ("bb-1", "10000032", "53189527", "", "train"),
    ("cc-1", "11000011", "51967283", "XTABLE LATERAL", "development"),
    ("dd-1", "19999987", "58621812", "AP AXIAL", "test"),
]
T1, T2, T3 = (FINDING_SETS[f"cxr-lt-2024-task{task}"] for task in (1, 2, 3))
CHEXPERT = FINDING_SETS["chexpert"]
FACTS = ("dicom_id", "subject_id", "study_id", "ViewPosition", "ViewCodeSequence_CodeMeaning")
METADATA = "mimic-cxr-2.0.0-metadata.csv.gz"


def place(dicom: str, subject: str, study: str) -> str:
    return f"files/p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg"


def write(file: Path, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(file, "wt") if file.suffix == ".gz" else file.open("w") as out:
        csv.writer(out).writerows([header, *rows])
    return file


def of_images(file: Path, findings: tuple[str, ...], side: str | None, path: str = "fpath") -> Path:
    """A label file of CXR-LT, its columns turned round: the first finding is present in every study that begins with 50."""
    chosen = [row for row in IMAGES if side in (None, row[4])]
    extra = ("split",) if side is None else ()
    rows = [
        (*(str(int(study.startswith("50") and k == 0)) for k in range(len(findings))), dicom, subject, f"s{study}", view,
         "", place(dicom, subject, study), *((given,) if extra else ()))
        for dicom, subject, study, view, given in chosen
    ]  # fmt: skip
    return write(file, (*findings, *FACTS, path, *extra), rows)


def release_2023(folder: Path) -> None:
    for side in ("train", "development", "test"):
        of_images(folder / f"{side}.csv", FINDING_SETS["cxr-lt-2023"], side, "path")


def release_2024(folder: Path, tasks: tuple[int, ...] = (1, 2, 3)) -> None:
    of_images(folder / "train_labeled.csv", T1, "train")
    for task in tasks:
        for side in ("development", "test"):
            of_images(folder / f"{side}_labeled_task{task}.csv", FINDING_SETS[f"cxr-lt-2024-task{task}"], side)


def official(root: Path, *, kinds: tuple[str, ...] = ("chexpert",), split: bool = True, gz: str = ".gz") -> None:
    """The tables of MIMIC-CXR-JPG; the last study has no labels."""
    for kind in kinds:
        rows = [("10000032", "50414267", "1.0", "-1.0", "0.0", *[""] * 11), ("10000032", "53189527", *[""] * 14)]
        rows.append(("11000011", "51967283", *["1.0"] * 14))
        write(root / f"mimic-cxr-2.0.0-{kind}.csv{gz}", ("subject_id", "study_id", *CHEXPERT), rows)
    metadata = [(dicom, subject, study, view, "21800506") for dicom, subject, study, view, _ in IMAGES]
    write(root / f"mimic-cxr-2.0.0-metadata.csv{gz}", (*FACTS[:4], "StudyDate"), metadata)
    if split:
        sides = [(row[0], row[2], row[1], {"development": "validate"}.get(row[4], row[4])) for row in IMAGES]
        write(root / f"mimic-cxr-2.0.0-split.csv{gz}", ("dicom_id", "study_id", "subject_id", "split"), sides)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for dicom, subject, study, *_ in IMAGES:
        file = tmp_path / place(dicom, subject, study)
        file.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(file), np.full((8, 8), 90, np.uint8))
    return tmp_path


def notes(imported: Imported) -> str:
    return "\n".join(imported.notes)


def test_cxr_lt_2023_by_name_and_not_by_position(root: Path) -> None:
    release_2023(root / "cxr-lt-2023")
    imported = import_mimic(root)
    studies = check_studies(imported.studies)
    assert imported.label_level == "study"
    assert finding_names(studies) == list(FINDING_SETS["cxr-lt-2023"])
    assert studies["study_id"].to_list() == [row[2] for row in sorted(IMAGES, key=lambda row: row[0])]
    assert studies["patient_id"].to_list() == ["10000032", "10000032", "10000032", "11000011", "19999987"]
    assert studies["split"].to_list() == ["train", "train", "train", "valid", "test"]
    assert studies["Atelectasis"].to_list() == [1, 1, 0, 0, 0]
    assert set(studies["source"]) == {"mimic"}
    assert all(Path(path).is_file() and Path(path).is_absolute() for path in studies["path"])
    assert "study_date" not in studies.columns
    assert "Labels of CXR-LT 2023: development.csv, test.csv, train.csv; 26 findings." in notes(imported)
    assert "5 of the 5 listed images are present." in notes(imported)
    assert "Official split: 3 train, 1 valid, 1 test." in notes(imported)


def test_views_and_dates(root: Path) -> None:
    release_2023(root)
    official(root, kinds=())
    studies = import_mimic(root).studies
    assert studies["view"].to_list() == ["PA", "LATERAL", "unknown", "LATERAL", "AP"]
    assert studies["view_raw"].to_list() == ["PA", "LL", None, "XTABLE LATERAL", "AP AXIAL"]
    assert studies["study_date"].to_list() == [date(2180, 5, 6)] * 5


@pytest.mark.parametrize(
    ("code", "view"),
    [("PA LLD", "PA"), ("AP LLD", "AP"), ("AP RLD", "AP"), ("LATERAL", "LATERAL"), ("LAO", "unknown"),
     ("RAO", "unknown"), ("SWIMMERS", "unknown"), ("LPO", "unknown")],
)  # fmt: skip
def test_rare_views(root: Path, code: str, view: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "IMAGES", [(*row[:3], code, row[4]) for row in IMAGES])
    release_2023(root)
    assert set(import_mimic(root).studies["view"]) == {view}


@pytest.mark.parametrize(("task", "names"), [(1, T1), (2, T1), (3, (*T1, *T3))])
def test_cxr_lt_2024_by_task(root: Path, task: int, names: tuple[str, ...]) -> None:
    release_2024(root / "cxr-lt-2024")
    studies = check_studies(import_mimic(root, task=task).studies)
    assert finding_names(studies) == list(names)
    assert studies["split"].to_list() == ["train", "train", "train", "valid", "test"]
    for name in names:  # what a file does not label is not labelled
        labelled = [name in T1] * 3 + [name in (T1, T2, T3)[task - 1]] * 2
        assert studies[name].is_not_null().to_list() == labelled, name


def test_labels_csv_with_its_split_column(root: Path) -> None:
    of_images(root / "cxr-lt-2024" / "labels.csv", (*T3, *T1), None)
    studies = check_studies(import_mimic(root).studies)
    assert finding_names(studies) == [*T1, *T3]
    assert studies["Bulla"].to_list() == [1, 1, 0, 0, 0]
    assert studies["split"].to_list() == ["train", "train", "train", "valid", "test"]


def test_the_only_task_needs_no_choice(root: Path) -> None:
    release_2024(root, tasks=(2,))
    assert "Labels of CXR-LT 2024 task 2" in notes(import_mimic(root))
    for file in root.glob("*task2.csv"):
        file.unlink()
    assert set(import_mimic(root).studies["split"]) == {"train"}


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("kind", ["chexpert", "negbio"])
def test_the_labels_of_the_release(root: Path, kind: str, gz: str) -> None:
    official(root, kinds=(kind,), gz=gz)
    imported = import_mimic(root)
    studies = check_studies(imported.studies)
    assert finding_names(studies) == list(CHEXPERT)
    assert studies.select(CHEXPERT[:4]).rows() == [
        (1, -1, 0, 0),
        (1, -1, 0, 0),
        (0, 0, 0, 0),
        (1, 1, 1, 1),
        (None, None, None, None),
    ]
    assert studies["split"].to_list() == ["train", "train", "train", "valid", "test"]
    assert studies["study_date"].null_count() == 0
    assert "1 listed studies have no row" in notes(imported)
    blank = import_mimic(root, blank="null").studies
    assert blank.select(CHEXPERT[:4]).row(0) == (1, -1, 0, None)
    assert blank["Fracture"].to_list() == [None, None, None, 1, None]


def test_without_a_split_csv(root: Path) -> None:
    official(root, split=False)
    imported = import_mimic(root)
    assert "split" not in imported.studies.columns
    assert "no split csv" in notes(imported)


def test_several_kinds_are_named_with_the_choice(root: Path) -> None:
    official(root, kinds=("chexpert", "negbio"))
    release_2024(root / "cxr-lt-2024")
    of_images(root / "cxr-lt-2024" / "labels.csv", (*T1, *T3), None)
    with pytest.raises(InputError) as caught:
        import_mimic(root)
    for words in ("CheXpert", "NegBio", "CXR-LT 2024 task 2", "--task 2", "labels.csv", "--labels"):
        assert words in str(caught.value)
    assert "of CheXpert:" in notes(import_mimic(root, labels="mimic-cxr-2.0.0-chexpert.csv.gz"))
    assert "of CXR-LT 2024:" in notes(import_mimic(root, labels=str(root / "cxr-lt-2024" / "labels.csv")))
    assert "of CXR-LT 2024 task 3:" in notes(import_mimic(root, labels="cxr-lt-2024", task=3))


def test_a_starting_kit_below_does_not_stand_in_the_way(root: Path) -> None:
    release_2024(root / "cxr-lt-2024", tasks=(1,))
    of_images(root / "cxr-lt-2024" / "task1_development_starting_kit" / "train_labeled.csv", T1, "train")
    assert import_mimic(root, labels="cxr-lt-2024").studies.height == 5


def test_labels_elsewhere_than_the_images(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("labels")
    release_2023(elsewhere)
    official(elsewhere, kinds=())
    assert import_mimic(root, labels=str(elsewhere)).studies["study_date"].null_count() == 0
    alone = import_mimic(root, labels=str(elsewhere / "train.csv")).studies
    assert (alone.height, alone["study_date"].null_count(), set(alone["split"])) == (3, 0, {"train"})


def test_images_that_are_absent(root: Path) -> None:
    release_2023(root)
    (root / place(*IMAGES[1][:3])).unlink()
    png = root / place(*IMAGES[2][:3])
    png.rename(png.with_suffix(".png"))
    (root / "files" / "p10" / "p10000032" / "s50414267" / "stray.jpg").touch()
    imported = import_mimic(root)
    assert imported.studies["image_id"].to_list() == ["aa-1", "bb-1", "cc-1", "dd-1"]
    assert imported.studies["path"][1].endswith(".png")
    assert f"1 images have no file and were left out, such as {place(*IMAGES[1][:3])}." in notes(imported)
    assert "1 image files are not listed" in notes(imported)


def test_no_image_at_all(root: Path) -> None:
    release_2023(root)
    for file in root.rglob("*.jpg"):
        file.unlink()
    with pytest.raises(
        InputError, match="none of the 5 listed images is here, such as files/p10/p10000032/s50414267/aa-1"
    ):
        import_mimic(root)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("Hernia,", "Hernai,", "'Hernai' is no finding of CXR-LT 2023.*'Hernia'"),
        ("Hernia,", "ViewCodeSequence_CodeMeaning,", "the label column 'Hernia' is missing"),
        ("Hernia,", "Mass,", "two columns are the finding 'Mass'"),
        ("\n1,", "\n0.3,", "'Atelectasis' holds '0.3'"),
        ("\n1,", "\n-1,", "'Atelectasis' holds '-1'"),
        ("s50414267", "s5.04e7", "study_id of row 1 is 's5.04e7'"),
        ("aa-2", "aa-1", "image 'aa-1' is listed more than once"),
        ("subject_id", "subject", "'subject' is no finding of CXR-LT 2023"),
    ],
)
def test_files_unlike_their_release(root: Path, old: str, new: str, told: str) -> None:
    release_2023(root)
    edit(root / "train.csv", old, new)
    with pytest.raises(InputError, match=told) as caught:
        import_mimic(root)
    assert str(root) in str(caught.value)


def test_an_unknown_split(root: Path) -> None:
    edit(of_images(root / "labels.csv", (*T1, *T3), None), ",development", ",holdout")
    with pytest.raises(InputError, match="the split column holds 'holdout'"):
        import_mimic(root)


def test_what_is_missing_is_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there are no label files here.*CXR-LT 2023: train\.csv"):
        import_mimic(root)
    official(root)
    with pytest.raises(InputError, match=r"no label files of CXR-LT 2024 task 2 here.*task2\.csv"):
        import_mimic(root, task=2)
    (root / METADATA).unlink()
    with pytest.raises(InputError, match=r"CheXpert labels name no images.*metadata\.csv"):
        import_mimic(root)
    with pytest.raises(InputError, match="no labels at this place"):
        import_mimic(root, labels="nowhere")
    with pytest.raises(InputError, match="label file of this name is not known"):
        import_mimic(root, labels=place(*IMAGES[0][:3]))
    with pytest.raises(InputError, match="task is 4"):
        import_mimic(root, task=4)
    with pytest.raises(InputError, match="blank is 'none'"):
        import_mimic(root, blank="none")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--labels is True"):
        import_mimic(root, labels=True)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Leave --task out"):
        import_mimic(root, labels="mimic-cxr-2.0.0-chexpert.csv.gz", task=1)
    with pytest.raises(InputError, match="no folder files/"):
        import_mimic(root / "files")


def test_images_of_a_study_that_are_labelled_apart_are_told(root: Path) -> None:
    release_2023(root)
    edit(root / "train.csv", "\n1,", "\n0,")
    assert "1 studies have images that are labelled apart" in notes(import_mimic(root))


def test_the_written_table(root: Path, tmp_path: Path) -> None:
    release_2023(root)
    table, imported = import_studies("mimic", root, tmp_path / "out" / "mimic.parquet")
    assert read_studies(table).equals(check_studies(imported.studies))
    assert studies_metadata(table)["label_level"] == "study"
