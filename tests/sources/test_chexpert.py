"""CheXpert: ids out of Path, blanks and -1, columns by name, every form of the download."""

from pathlib import Path

import pytest

from hilum.errors import InputError
from hilum.findings import FINDING_SETS
from hilum.sources import import_studies
from hilum.sources.chexpert import import_chexpert
from hilum.tables import check_studies, finding_names, read_studies, studies_metadata
from tests.sources.release_files import image, notes, table

FINDINGS = FINDING_SETS["chexpert"]
HEADER = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS)
# Path below the release's folder, facts, and the labels that are not blank.
ROWS = [
    ("train/patient00001/study1/view1_frontal.jpg", ("Female", "68", "Frontal", "AP"), {"Edema": "1.0", "Fracture": "-1.0"}),
    ("train/patient00001/study1/view2_lateral.jpg", ("Female", "68", "Lateral", ""), {"Edema": "1.0", "Fracture": "-1.0"}),
    ("train/patient00001/study2/view1_frontal.jpg", ("Female", "69", "Frontal", "PA"), {"No Finding": "1.0"}),
    ("train/patient00002/study1/view1_frontal.jpg", ("Unknown", "0", "Frontal", "LL"), {"Pneumonia": "0.0"}),
    ("valid/patient64541/study1/view1_frontal.jpg", ("Male", "73", "Frontal", "AP"), {"Edema": "0.0"}),
]  # fmt: skip


def labels(root, name, rows, top="CheXpert-v1.0-small", header=HEADER, **how):
    cells = [
        dict(zip(HEADER, (f"{top}/{path}", *facts, *(said.get(f, "") for f in FINDINGS)))) for path, facts, said in rows
    ]
    return table(root / name, header, [[row[name] for name in header] for row in cells], **how)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "CheXpert-v1.0-small"
    for path, *_ in ROWS:
        image(folder / path)
    labels(folder, "train.csv", ROWS[:4])
    labels(folder, "valid.csv", ROWS[4:])
    return folder


def test_patients_and_studies_out_of_the_path(root):
    imported = import_chexpert(root)
    studies = check_studies(imported.studies)
    assert imported.label_level == "study"
    assert finding_names(studies) == list(FINDINGS)
    assert studies["patient_id"].to_list() == ["patient00001"] * 3 + ["patient00002", "patient64541"]
    assert studies["study_id"].to_list()[:3] == ["patient00001/study1"] * 2 + ["patient00001/study2"]
    assert studies["image_id"].n_unique() == 5
    assert studies["split"].to_list() == ["train"] * 4 + ["valid"]
    assert studies["view"].to_list() == ["AP", "LATERAL", "PA", "LATERAL", "AP"]
    assert studies["view_raw"].to_list() == ["AP", "Lateral", "PA", "LL", "AP"]
    assert studies["sex"].to_list() == ["F", "F", "F", None, "M"]
    assert studies["age"].to_list()[0] == 68
    assert "5 of the 5 listed images" in notes(imported)


def test_blank_is_absent_or_not_labelled_and_uncertain_stays(root):
    zero = import_chexpert(root).studies
    assert zero["Edema"].to_list() == [1, 1, 0, 0, 0]
    assert zero["Fracture"].to_list() == [-1, -1, 0, 0, 0]
    null = import_chexpert(root, blank="null").studies
    assert null["Edema"].to_list() == [1, 1, None, None, 0]
    assert null["Pneumonia"].to_list() == [None, None, None, 0, None]


def test_the_columns_of_chexbert_are_found_by_name(root):
    turned = (*HEADER[:5], *FINDINGS[1:], "No Finding")
    labels(root, "train_cheXbert.csv.gz", ROWS[:4], header=turned, bom=True)
    studies = import_chexpert(root, labels="train_cheXbert.csv.gz").studies
    assert studies.drop("path").equals(import_chexpert(root).studies.drop("path"))
    assert studies["No Finding"].to_list() == [0, 0, 1, 0, 0]


def test_folders_of_another_name_and_batches(root, tmp_path):
    moved = root.rename(tmp_path / "mine")
    assert import_chexpert(moved).studies.height == 5
    batch = tmp_path / "batches"
    for path, *_ in ROWS:
        image(batch / f"CheXpert-v1.0 batch 2 ({path.split('/')[0]} 1)" / path.split("/", 1)[1])
    labels(batch / "CheXpert-v1.0 batch 1 (validate & csv)", "train.csv", ROWS, top="CheXpert-v1.0")
    assert import_chexpert(batch).studies["split"].to_list() == ["train"] * 4 + ["valid"]


def test_the_labels_of_the_test_set_have_no_facts(root):
    header = ("Path", *FINDINGS)
    table(root / "test_labels.csv", header, [("test/patient64741/study1/view1_frontal.jpg", *["0"] * 14),
                                             ("test/patient64741/study1/view2_lateral.jpg", *["0"] * 14)])  # fmt: skip
    image(root / "test/patient64741/study1/view1_frontal.jpg")
    image(root / "test/patient64741/study1/view2_lateral.jpg")
    studies = import_chexpert(root).studies
    assert studies["split"].to_list()[5:] == ["test"] * 2
    assert studies["view"].to_list()[5:] == ["unknown", "LATERAL"]
    assert studies["age"].to_list()[5:] == [None, None]


def test_missing_images_are_told_and_the_door_writes_the_table(root, tmp_path):
    (root / ROWS[3][0]).unlink()
    image(root / "train/patient09999/study1/view1_frontal.jpg")
    file, imported = import_studies("chexpert", root, tmp_path / "c.parquet", blank="null")
    assert read_studies(file).height == 4
    assert studies_metadata(file)["label_level"] == "study"
    assert "1 images have no file and were left out, such as 'patient00002/study1" in notes(imported)
    assert "1 image files are not listed" in notes(imported)
    assert "count as not labelled" in notes(imported)


def test_files_unlike_their_release(root, tmp_path):
    with pytest.raises(InputError, match=r"no train\.csv, valid\.csv or test\.csv"):
        import_chexpert(tmp_path / "CheXpert-v1.0-small" / "train")
    with pytest.raises(InputError, match="no such label file"):
        import_chexpert(root, labels="train_chexbert.csv")
    labels(root, "empty.csv", [])
    with pytest.raises(InputError, match="no rows"):
        import_chexpert(root, labels="empty.csv")
    labels(root, "twice.csv", [ROWS[0], ROWS[0]])
    with pytest.raises(InputError, match="listed more than once"):
        import_chexpert(root, labels="twice.csv")
    labels(root, "short.csv", ROWS, header=HEADER[:-1])
    with pytest.raises(InputError, match=r"'Support Devices' is missing \(1 of 14 are\)"):
        import_chexpert(root, labels="short.csv")
    labels(root, "path.csv", [("train/view1_frontal.jpg", *ROWS[0][1:])])
    with pytest.raises(InputError, match="names no patient and study"):
        import_chexpert(root, labels="path.csv")
    labels(root, "value.csv", [(*ROWS[0][:2], {"Edema": "2"})])
    with pytest.raises(InputError, match=r"'Edema' holds '2'.*-1 \(uncertain\)"):
        import_chexpert(root, labels="value.csv")
    with pytest.raises(InputError, match="option 'blank'"):
        import_studies("chexpert", root, tmp_path / "c.parquet", blank="none")
