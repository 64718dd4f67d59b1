"""PadChest: ids of 39 digits, the files of CXR-LT 2026 with their blank headers, and lists of terms."""

from datetime import date
from pathlib import Path

import pytest

from hilum.errors import InputError
from hilum.findings import FINDING_SETS
from hilum.sources import import_studies
from hilum.sources.padchest import import_padchest
from hilum.sources.padchest_terms import SILENT, TERMS
from hilum.tables import check_studies, finding_names, read_studies
from tests.sources.release_files import image, notes, table

# As the challenge's header spells them.
OFFICIAL = (
    "Normal", "aortic elongation", "cardiomegaly", "pleural effusion", "Nodule", "atelectasis", "pleural thickening",
    "aortic atheromatosis", "Support Devices", "alveolar pattern", "fracture", "Hernia", "Emphysema", "azygos lobe",
    "Hydropneumothorax", "Kyphosis", "Mass", "Pneumothorax", "Subcutaneous Emphysema", "pneumoperitoneo",
    "vascular hilar enlargement", "vertebral degenerative changes", "hyperinflated lung", "interstitial pattern",
    "central venous catheter", "hypoexpansion", "bronchiectasis", "hemidiaphragm elevation", "sternotomy",
    "calcified densities",
)  # fmt: skip
KEYS = ("ImageID", "StudyDate_DICOM", "PatientID")
ANN = "324000000000000000000000000000000000001"  # both are 3.24e+38 as floating-point numbers
BOB = "324000000000000000000000000000000000002"
assert len(ANN) == 39
assert float(ANN) == float(BOB)
IMAGES = [  # name, date, patient, positive
    ("1001_00-001.png", "20140203", ANN, "cardiomegaly"),
    ("1002_00-001.png", "20140203", ANN, "cardiomegaly"),
    ("1003_00-001.png", "20150203", ANN, "pneumoperitoneo"),
    ("1004_00-001.png", "20140203", BOB, "Normal"),
    ("1005_00-001.png", "", BOB, "Mass"),
]
TEST = [("2001_00-001.png", "20160101", "9" * 39), ("2002_00-001.png", "20160101", "9" * 39)]
OWN = (
    "", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
    "Projection", "Manufacturer_DICOM", "Labels",
)  # fmt: skip


def training(root: Path, rows=IMAGES, name="CXRLT_2026_training.csv", header=(*KEYS, *OFFICIAL), **how) -> Path:
    cells = [(*row[:3], *(str(int(finding == row[3])) for finding in OFFICIAL)) for row in rows]
    return table(root / name, header, cells, **how)


def tests_without_names(root: Path) -> None:
    table(root / "CXRLT_2026_TEST_ALL_TASK1.csv", (*KEYS, *[""] * 30), [(*row, *[""] * 30) for row in TEST], bom=True)
    table(root / "CXRLT_2026_TEST_ALL_TASK2.csv.gz", (*KEYS, *[""] * 6), [TEST[1]])


def own(root: Path, rows, name="PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz") -> Path:
    return table(root / name, OWN, [(str(k), *row) for k, row in enumerate(rows)])


def row(name, labels, study="5" * 39, patient=ANN, projection="PA", day="20140203", born="1950.0"):
    return name, "0", day, study, patient, born, "F", projection, "ImagingDynamicsCompanyLtd", labels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for k, (name, *_) in enumerate([*IMAGES, *TEST]):
        image(tmp_path / str(k % 2) / name, bits=16)
    return tmp_path


def test_long_ids_keep_patients_apart(root, tmp_path):
    training(root)
    file, imported = import_studies("padchest", root, tmp_path / "p.parquet")
    studies = read_studies(file)
    assert finding_names(studies) == list(FINDING_SETS["cxr-lt-2026-task1"])
    assert studies["patient_id"].to_list() == [ANN] * 3 + [BOB] * 2
    assert studies["study_id"].to_list()[:4] == [f"{ANN}_20140203"] * 2 + [f"{ANN}_20150203", f"{BOB}_20140203"]
    assert studies["study_id"][4] == f"{BOB}_1005_00-001.png"  # without a date an image is a study
    assert studies["study_date"][0] == date(2014, 2, 3)
    assert studies["Cardiomegaly"].to_list() == [1, 1, 0, 0, 0]
    assert studies["Pneumoperitoneum"].to_list() == [0, 0, 1, 0, 0]
    assert studies["Normal"].to_list() == [0, 0, 0, 1, 0]
    assert set(studies["view"]) == {"unknown"}
    assert imported.label_level == "study"
    assert "pneumoperitoneo is Pneumoperitoneum" in notes(imported)
    assert "PadChest's own table is not here" in notes(imported)


def test_rounded_ids_are_refused(root):
    training(root, [(*IMAGES[0][:2], "3.24e+38", "Mass")])
    with pytest.raises(InputError, match=r"'PatientID' holds 3\.24e\+38.*rounded ids merge patients"):
        import_padchest(root)


def test_blank_headers_of_the_tests_are_no_labels(root):
    training(root, name="CXRLT_2026_training.csv.gz")
    tests_without_names(root)
    imported = import_padchest(root)
    studies = check_studies(imported.studies)
    assert studies["split"].to_list() == ["train"] * 5 + ["test"] * 2
    assert studies["image_id"].to_list()[5:] == ["2001_00-001", "2002_00-001"]
    tested = studies.filter(studies["split"] == "test").select(finding_names(studies))
    assert tested.null_count().sum_horizontal().item() == tested.height * tested.width
    assert "for the tests 2; test images are not labelled" in notes(imported)


def test_the_tests_alone(root):
    tests_without_names(root)
    studies = check_studies(import_padchest(root).studies)
    assert studies.height == 2
    assert studies["Mass"].null_count() == 2


def test_what_removal_lists_is_not_trained_on(root):
    training(root)
    tests_without_names(root)
    table(root / "Removal.csv", KEYS, [IMAGES[1][:3], TEST[0], ("gone.png", "20140101", BOB)])
    imported = import_padchest(root)
    names = imported.studies["image_id"].to_list()
    assert "1002_00-001" not in names
    assert "2001_00-001" in names
    assert "1 images of Removal.csv were left out; it lists 3" in notes(imported)


def test_images_of_a_study_labelled_apart(root):
    training(root, [IMAGES[0], (*IMAGES[1][:3], "Mass")])
    assert import_padchest(root).label_level == "image"


def test_facts_from_the_own_table(root):
    training(root)
    own(
        root,
        [row(IMAGES[0][0], "['normal']", projection="AP_horizontal"), row(IMAGES[1][0], "['normal']", projection="L")],
    )
    with pytest.raises(InputError, match=r"both cxr-lt-2026 and padchest.*--release padchest"):
        import_padchest(root)
    studies = import_padchest(root, release="cxr-lt-2026").studies
    assert studies["view"].to_list() == ["AP", "LATERAL", "unknown", "unknown", "unknown"]
    assert studies["age"].to_list()[:3] == [64, 64, None]
    assert studies["sex"].to_list()[:3] == ["F", "F", None]
    assert studies["Cardiomegaly"].to_list() == [1, 1, 0, 0, 0]


def test_terms_become_findings(root):
    own(root, [
        row(IMAGES[0][0], "['callus rib fracture', ' cardiomegaly', 'hydropneumothorax']"),
        row(IMAGES[1][0], "['normal']", projection="L"),
        row(IMAGES[2][0], "['unchanged', 'laminar atelectasis']", study="6" * 39, day="20150203"),
        row(IMAGES[3][0], "['unchanged']", study="7" * 39, patient=BOB),
        row(IMAGES[4][0], "['air bronchogram', 'exclude']", study="8" * 39, patient=BOB),
        row(TEST[0][0], "['normal']", study="4" * 39, projection="EXCLUDE"),
        row(TEST[1][0], "", study="3" * 39),
    ])  # fmt: skip
    imported = import_padchest(root)
    studies = check_studies(imported.studies)
    assert finding_names(studies) == list(FINDING_SETS["padchest"])
    shown = {name: studies[name].to_list() for name in ("Rib Fracture", "Fracture", "Pneumothorax", "Pleural Effusion")}
    assert all(column == [1, 0, None, None, None, None] for column in shown.values()), shown
    assert studies["Normal"].to_list() == [0, 1, None, None, None, None]
    assert studies["Atelectasis"].to_list() == [0, 0, 1, None, None, None]  # unchanged: the rest is not known
    assert studies["Consolidation"].to_list() == [0, 0, None, None, None, None]
    assert studies["study_id"].to_list()[:3] == ["5" * 39] * 2 + ["6" * 39]
    assert studies["view"].to_list()[:2] == ["PA", "LATERAL"]
    assert studies["device"][0] == "ImagingDynamicsCompanyLtd"
    assert studies["age"].to_list()[:3] == [64, 64, 65]
    for said in ("3 images have no labels", "1 more have reports that say unchanged", "1 images are marked EXCLUDE"):
        assert said in notes(imported)


def test_every_finding_of_the_set_has_terms_and_no_term_is_silent():
    assert list(TERMS) == list(FINDING_SETS["padchest"])
    assert all(terms and not set(terms) & set(SILENT) for terms in TERMS.values())
    assert all(term == term.lower().strip() for terms in TERMS.values() for term in terms)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: None, "there is no label table here"),
        (lambda root: training(root, []), "no rows"),
        (lambda root: own(root, []), "no rows"),
        (lambda root: training(root, [IMAGES[0], IMAGES[0]]), "listed more than once"),
        (lambda root: training(root, header=(*KEYS, "mas", *OFFICIAL[1:])), "'mas' is no finding of CXR-LT 2026"),
        (lambda root: training(root, [("", "20140203", ANN, "Mass")]), "a row has no ImageID"),
        (lambda root: training(root, [("1.png", "20140203", "", "Mass")]), "a row has no PatientID"),
        (lambda root: training(root, [("1.png", "20140203", ANN, "Mass")]), "none of the 1 images"),
    ],
)
def test_files_unlike_their_release(root, make, says):
    make(root)
    with pytest.raises(InputError, match=says):
        import_padchest(root)
