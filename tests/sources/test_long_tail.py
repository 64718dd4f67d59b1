"""NIH-CXR-LT and MIMIC-CXR-LT: label files upon the images of others."""

from pathlib import Path

import pytest

from hilum.errors import InputError
from hilum.findings import FINDING_SETS
from hilum.sources import import_studies
from hilum.sources.long_tail import import_mimic_cxr_lt, import_nih_cxr_lt
from hilum.sources.nih import import_nih
from hilum.tables import check_studies, finding_names, read_studies
from tests.sources.release_files import image, notes, table

# The spelling and order of the files of 2022 and 2023.
SINGLE = (
    "No Finding", "Infiltration", "Atelectasis", "Effusion", "Nodule", "Mass", "Pneumothorax", "Consolidation",
    "Pleural_Thickening", "Cardiomegaly", "Fibrosis", "Edema", "Tortuous Aorta", "Emphysema", "Pneumonia",
    "Calcification of the Aorta", "Pneumoperitoneum", "Hernia", "Subcutaneous Emphysema", "Pneumomediastinum",
)  # fmt: skip
MULTI = tuple(name.replace("_", " ") for name in reversed(SINGLE))
MIMIC = FINDING_SETS["mimic-cxr-lt"]
NAMES = ("00000013_000.png", "00000013_001.png", "00000020_000.png", "00030805_000.png")
PATHS = ("files/p10/p10000032/s50414267/aa-1.jpg", "files/p10/p10000032/s50414267/aa-2.jpg",
         "files/p11/p11000011/s51967283/cc-1.jpg")  # fmt: skip


def hot(columns, *shown):
    return [str(int(name in shown)) for name in columns]


def single(folder: Path) -> None:
    parts = {"train": NAMES[:2], "balanced-val": NAMES[2:3], "test": NAMES[3:], "balanced-test": NAMES[3:]}
    for part, names in parts.items():
        rows = [(name, *hot(SINGLE, "Hernia" if k else "Effusion")) for k, name in enumerate(names)]
        table(folder / f"nih-cxr-lt_single-label_{part}.csv", ("id", *SINGLE), rows)


def multi(folder: Path) -> None:
    for part, names in (("train", NAMES[:2]), ("val", NAMES[2:3]), ("test", NAMES[3:])):
        rows = [(name, str(int(name[:8])), *hot(MULTI, "Tortuous Aorta", "Effusion")) for name in names]
        table(folder / f"miccai2023_nih-cxr-lt_labels_{part}.csv.gz", ("id", "subj_id", *MULTI), rows)


@pytest.fixture
def nih(tmp_path: Path) -> Path:
    for name in NAMES:
        image(tmp_path / "nih" / "images" / name)
    return tmp_path / "nih"


@pytest.fixture
def mimic(tmp_path: Path) -> Path:
    for path in PATHS:
        image(tmp_path / "mimic" / path)
    return tmp_path / "mimic"


def test_one_class_an_image(nih, tmp_path):
    single(nih / "LongTailCXR")
    file, imported = import_studies("nih-cxr-lt", nih, tmp_path / "lt.parquet")
    studies = read_studies(file)
    assert finding_names(studies) == list(FINDING_SETS["nih-cxr-lt"])
    assert studies["split"].to_list() == ["train", "train", "valid", "test"]
    assert studies["patient_id"].to_list() == ["13", "13", "20", "30805"]
    assert studies["Pleural Effusion"].to_list() == [1, 0, 1, 1]
    assert studies["Hernia"].to_list() == [0, 1, 0, 0]
    assert studies.select(finding_names(studies)).sum_horizontal().to_list() == [1] * 4
    assert "Effusion is Pleural Effusion" in notes(imported)
    assert "Pleural_Thickening" not in notes(imported)
    assert "Split: 2 train, 1 valid, 1 test." in notes(imported)


def test_the_balanced_test_in_place_of_the_whole(nih):
    single(nih)
    imported = import_nih_cxr_lt(nih, test="balanced")
    assert "balanced-test.csv (test)" in notes(imported)
    assert "label_test.csv" not in notes(imported)
    assert imported.studies["split"].to_list() == ["train", "train", "valid", "test"]


def test_several_labels_an_image_and_ids_as_nih_has_them(nih):
    multi(nih)
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
    lines = [f"{name},No Finding,0,{int(name[:8])},5{k},F,{'AP' if k else 'PA'}" for k, name in enumerate(NAMES)]
    (nih / "Data_Entry_2017.csv").write_text("\n".join([header, *lines]))
    studies = check_studies(import_nih_cxr_lt(nih).studies)
    assert studies["view"].to_list() == ["PA", "AP", "AP", "AP"]
    assert studies["age"].to_list() == [50, 51, 52, 53]
    assert studies["Tortuous Aorta"].to_list() == [1] * 4
    own = import_nih(nih).studies
    same = ["study_id", "patient_id", "image_id", "path", "view", "source", "age", "sex"]
    assert studies.select(same).equals(own.select(same))


def test_without_the_table_of_nih_views_are_unknown(nih):
    multi(nih)
    imported = import_nih_cxr_lt(nih)
    assert set(check_studies(imported.studies)["view"]) == {"unknown"}
    assert "Views, ages and sexes are unknown" in notes(imported)


@pytest.mark.parametrize("year", [2022, 2023])
def test_both_years_ask_for_one(nih, year):
    single(nih)
    multi(nih)
    with pytest.raises(InputError, match="2022 and of 2023"):
        import_nih_cxr_lt(nih)
    assert import_nih_cxr_lt(nih, year=year).studies["Tortuous Aorta"].sum() == (4 if year == 2023 else 0)


def test_mimic_by_its_paths(mimic, tmp_path):
    rows = [(path, *hot(MIMIC, "Pneumonia", "Lung Opacity")) for path in PATHS]
    header = ("path", *MIMIC)
    table(tmp_path / "labels" / "miccai2023_mimic-cxr-lt_labels_train.csv", header, rows[:2])
    table(tmp_path / "labels" / "miccai2023_mimic-cxr-lt_labels_test.csv", header, rows[2:])
    imported = import_mimic_cxr_lt(mimic, labels=str(tmp_path / "labels"))
    studies = check_studies(imported.studies)
    assert finding_names(studies) == list(MIMIC)
    assert studies["study_id"].to_list() == ["50414267", "50414267", "51967283"]
    assert studies["patient_id"].to_list() == ["10000032", "10000032", "11000011"]
    assert studies["image_id"].to_list() == ["aa-1", "aa-2", "cc-1"]
    assert set(studies["source"]) == {"mimic"}
    assert studies["split"].to_list() == ["train", "train", "test"]
    assert set(studies["view"]) == {"unknown"}
    facts = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate")
    table(mimic / "mimic-cxr-2.0.0-metadata.csv.gz", facts, [("aa-2", "10000032", "50414267", "LL", "21800506")])
    studies = import_mimic_cxr_lt(mimic, labels=str(tmp_path / "labels")).studies
    assert studies["view"].to_list() == ["unknown", "LATERAL", "unknown"]


def test_the_single_labels_of_mimic(mimic):
    ids = [("10000032", "50414267", "aa-1"), ("10000032", "50414267", "aa-2"), ("11000011", "51967283", "cc-1")]
    rows = [(*each, path, *hot(MIMIC, "Fracture")) for each, path in zip(ids, PATHS)]
    table(mimic / "mimic-cxr-lt_single-label_train.csv", ("subject_id", "study_id", "dicom_id", "path", *MIMIC), rows)
    (mimic / PATHS[1]).unlink()
    imported = import_mimic_cxr_lt(mimic)
    assert imported.studies["image_id"].to_list() == ["aa-1", "cc-1"]
    assert imported.studies["Fracture"].to_list() == [1, 1]
    assert "1 images have no file and were left out" in notes(imported)


def test_files_unlike_their_release(nih, mimic, tmp_path):
    with pytest.raises(InputError, match=r"no label files here.*nih"):
        import_nih_cxr_lt(nih)
    with pytest.raises(InputError, match="no such folder of labels"):
        import_nih_cxr_lt(nih, labels="nowhere")
    with pytest.raises(InputError, match="Say 2022 or 2023"):
        import_nih_cxr_lt(nih, year=2024)
    with pytest.raises(InputError, match="no balanced test"):
        import_nih_cxr_lt(nih, year=2023, test="balanced")
    with pytest.raises(InputError, match="no folder files/"):
        import_mimic_cxr_lt(nih)
    file = nih / "nih-cxr-lt_single-label_train.csv"
    table(file, ("id", *SINGLE[1:]), [(NAMES[0], *hot(SINGLE[1:]))])
    with pytest.raises(InputError, match="'No Finding' is missing"):
        import_nih_cxr_lt(nih)
    table(file, ("id", *SINGLE), [])
    with pytest.raises(InputError, match="no rows"):
        import_nih_cxr_lt(nih)
    table(file, ("id", *SINGLE), [("a.png", *hot(SINGLE))])
    with pytest.raises(InputError, match=r"id 'a' is no image of ChestX-ray14"):
        import_nih_cxr_lt(nih)
    table(file, ("id", *SINGLE), [(NAMES[0], *hot(SINGLE)), (NAMES[0], *hot(SINGLE))])
    with pytest.raises(InputError, match="listed more than once"):
        import_nih_cxr_lt(nih)
    table(file, ("id", *SINGLE), [("00000099_000.png", *hot(SINGLE))])
    with pytest.raises(InputError, match="none of the 1 listed images"):
        import_nih_cxr_lt(nih)
    table(mimic / "mimic-cxr-lt_single-label_train.csv", ("path", *MIMIC), [("x.jpg", *hot(MIMIC))])
    with pytest.raises(InputError, match=r"'x\.jpg' is no image of MIMIC"):
        import_mimic_cxr_lt(mimic)
