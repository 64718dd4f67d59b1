"""VinDr-CXR: the boxes of three readers as one vote an image."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import InputError
from hilum.findings import FINDING_SETS
from hilum.sources import import_studies
from hilum.sources.vindr import import_vindr
from hilum.tables import check_studies, finding_names, read_studies
from tests.pixels.dicom_files import chest, dicom
from tests.sources.release_files import image, notes, table

HEADER = ("image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max")
NOTHING = ("No finding", "14", "", "", "", "")
A, B, C = "a" * 32, "b" * 32, "c" * 32


def box(name, number="0", corners=("10", "20", "30", "60")):
    return name, number, *corners


def row(image_id, reader, said):
    name, number, *corners = said
    return (image_id, name, number, reader, *corners)


ROWS = [
    row(A, "R1", box("Cardiomegaly", "3")),
    row(A, "R2", box("Cardiomegaly", "3", ("12", "22", "32", "62"))),
    row(A, "R2", box("Nodule/Mass", "8")),
    row(A, "R3", box("Pulmonary fibrosis", "13")),
    row(A, "R3", box("Pulmonary fibrosis", "13", ("1", "1", "2", "2"))),
    *(row(B, reader, NOTHING) for reader in ("R1", "R4", "R5")),
    *(row(C, reader, box("ILD", "5")) for reader in ("R1", "R2", "R3")),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (A, B, C):
        image(tmp_path / "train" / f"{name}.png", 50, 100)
    table(tmp_path / "train.csv", HEADER, ROWS)
    return tmp_path


def test_patients_are_unknown_only_where_it_is_said(root, tmp_path):
    with pytest.raises(InputError, match="Say --patients unknown"):
        import_studies("vindr", root, tmp_path / "v.parquet")
    file, imported = import_studies("vindr", root, tmp_path / "v.parquet", patients="unknown")
    assert read_studies(file)["patient_id"].null_count() == 3
    assert "Patients are unknown" in imported.notes[-1]


def test_most_readers_decide(root):
    imported = import_vindr(root, "unknown")
    studies = check_studies(imported.studies)
    assert finding_names(studies) == list(FINDING_SETS["vindr"])
    assert studies["image_id"].to_list() == [A, B, C]
    assert studies["study_id"].to_list() == [A, B, C]
    assert set(studies["view"]) == {"PA"}
    assert studies["Cardiomegaly"].to_list() == [1, 0, 0]
    assert studies["Nodule/Mass"].to_list() == [0, 0, 0]  # one of three; and two boxes of one reader are one voice:
    assert studies["Fibrosis"].to_list() == [0, 0, 0]
    assert studies["Interstitial Lung Disease"].to_list() == [0, 0, 1]
    assert not {"Nodule", "Mass", "No Finding"} & set(studies.columns)
    assert "2 findings were drawn by more than half of the readers and are present; 2 by fewer and count as absent" in notes(imported)  # fmt: skip
    assert "Pulmonary fibrosis is Fibrosis" in notes(imported)
    assert "ILD is Interstitial Lung Disease" in notes(imported)
    assert "read 3 by 3 readers" in notes(imported)


@pytest.mark.parametrize(("disputed", "value"), [("zero", 0), ("uncertain", -1), ("null", None)])
def test_what_too_few_saw(root, disputed, value):
    studies = import_vindr(root, "unknown", disputed=disputed).studies
    assert studies["Nodule/Mass"].to_list() == [value, 0, 0]
    assert studies["Cardiomegaly"].to_list() == [1, 0, 0]


@pytest.mark.parametrize(("agree", "shown"), [(1, (1, 1, 1)), (2, (1, 0, 1)), (3, (0, 0, 1))])
def test_how_many_have_to_agree(root, agree, shown):
    studies = import_vindr(root, "unknown", agree=agree).studies
    assert (studies["Cardiomegaly"][0], studies["Fibrosis"][0], studies["Interstitial Lung Disease"][2]) == shown


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([A, B]), st.sampled_from("123"), st.booleans()), min_size=1), st.permutations([0, 1, 2])
)  # fmt: skip
def test_neither_the_order_of_rows_nor_repeated_boxes_change_the_vote(tmp_path_factory, votes, order):
    folder = tmp_path_factory.mktemp("votes")
    image(folder / f"{A}.png")
    image(folder / f"{B}.png")
    base = [row(name, reader, NOTHING) for name in (A, B) for reader in "123"]
    drawn = [row(name, reader, box("Cardiomegaly") if seen else NOTHING) for name, reader, seen in votes]
    for rows in (base + drawn, [*drawn, *base, *drawn][:: 1 if order[0] else -1]):
        table(folder / "train.csv", HEADER, rows)
        studies = import_vindr(folder, "unknown").studies.sort("image_id")
        expected = [int(len({reader for name, reader, seen in votes if seen and name == each}) >= 2) for each in (A, B)]
        assert studies["Cardiomegaly"].to_list() == expected
    shutil.rmtree(folder)


def test_boxes_go_to_the_copy_where_its_scale_is_known(root):
    assert import_vindr(root, "unknown").regions is None
    table(root / "train_meta.csv", ("image_id", "dim0", "dim1"), [(A, "200", "200"), (C, "100", "50")])
    regions = import_vindr(root, "unknown").regions
    assert regions.select("image_id", "finding").unique().sort("image_id").rows() == [
        (A, "Cardiomegaly"), (C, "Interstitial Lung Disease"),
    ]  # fmt: skip
    assert regions.row(0)[2:] == (2.5, 10.0, 7.5, 30.0)
    assert regions.row(2)[2:] == (10.0, 20.0, 30.0, 60.0)


def test_a_dicom_file_comes_before_its_copies_and_needs_no_scale(root):
    (root / "dicom").mkdir()
    (root / "dicom" / f"{A}.dicom").write_bytes(dicom(chest()))
    imported = import_vindr(root, "unknown")
    assert imported.studies["path"][0].endswith(".dicom")
    assert imported.regions["x0"].to_list() == [10.0, 12.0]
    assert "1 images have none" in notes(imported)


def test_files_unlike_their_release(root, tmp_path):
    table(root / "train.csv", HEADER, [row(A, "R1", box("Nodule", "8"))])
    with pytest.raises(InputError, match=r"boxes of 'Nodule'.*'Nodule/Mass'"):
        import_vindr(root, "unknown")
    table(root / "train.csv", HEADER, [row(A, "", box("Cardiomegaly"))])
    with pytest.raises(InputError, match="lacks its image or its reader"):
        import_vindr(root, "unknown")
    table(root / "train.csv", HEADER, [row("d" * 32, "R1", NOTHING)])
    with pytest.raises(InputError, match="none of the 1 images"):
        import_vindr(root, "unknown")
    table(root / "train.csv", HEADER, [])
    with pytest.raises(InputError, match="no rows"):
        import_vindr(root, "unknown")
    (root / "train.csv").unlink()
    with pytest.raises(InputError, match=r"no train\.csv"):
        import_vindr(root, "unknown")
    table(root / "train.csv.gz", HEADER, ROWS)
    assert import_vindr(root, "unknown").studies.height == 3
    with pytest.raises(InputError, match="no image has 4 readers"):
        import_vindr(root, "unknown", agree=4)
