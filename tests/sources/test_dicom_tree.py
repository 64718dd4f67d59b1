"""A folder of DICOM files: headers stand for a table, a table wins over headers, and what cannot be used is counted."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from hilum.data.cache import build_cache
from hilum.errors import InputError, MachineError
from hilum.pixels.isolated import decoder as isolated
from hilum.pixels.read import image_size, read_image
from hilum.sources.folder import import_folder
from hilum.sources.imported import Imported
from hilum.tables import check_studies

CR = "1.2.840.10008.5.1.4.1.1.1"
RAW = "1.2.840.10008.5.1.4.1.1.1.1.1"
HEIGHT, WIDTH = 70, 80


def dicom(path: Path, uid: str, **values: object) -> Path:
    """A CR image of patient p1 and study s1, white on the right; values by keyword, None leaves one out."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pixels = np.zeros((HEIGHT, WIDTH), np.uint16)
    pixels[:, WIDTH // 2 :] = 4095
    given: dict[str, object] = {
        "SOPClassUID": CR, "SOPInstanceUID": uid, "StudyInstanceUID": "1.2.1", "PatientID": "p1", "PatientName": "Nobody^N",
        "ViewPosition": "PA", "StudyDate": "20200131", "PatientAge": "057Y", "PatientSex": "F", "Manufacturer": "ACME",
        "ManufacturerModelName": "R2", "Rows": HEIGHT, "Columns": WIDTH, "SamplesPerPixel": 1, "BitsAllocated": 16,
        "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": pixels.tobytes(),
    }  # fmt: skip
    for name, value in (given | values).items():
        if value is not None:
            setattr(data, name, value)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = uid
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two studies of two patients, in files of any name, beside what is no image."""
    dicom(tmp_path / "a" / "IM0001", "1.1")
    dicom(tmp_path / "a" / "IM0002.dcm", "1.2", ViewPosition="LL")
    dicom(tmp_path / "b" / "x.1.2.3", "1.3", StudyInstanceUID="1.2.2", PatientID="p2", PatientAge=None, PatientSex="O")
    (tmp_path / "DICOMDIR").write_bytes((tmp_path / "a" / "IM0001").read_bytes())
    (tmp_path / "readme.txt").write_text("no image")
    return tmp_path


def notes(imported: Imported) -> str:
    return "\n".join(imported.notes)


def test_headers_stand_for_a_table(tree: Path) -> None:
    imported = import_folder(tree)
    studies = check_studies(imported.studies)
    assert studies["image_id"].to_list() == ["1.1", "1.2", "1.3"]
    assert studies["study_id"].to_list() == ["1.2.1", "1.2.1", "1.2.2"]
    assert studies["patient_id"].to_list() == ["p1", "p1", "p2"]
    assert studies["view"].to_list() == ["PA", "LATERAL", "PA"]
    assert studies["view_raw"].to_list() == ["PA", "LL", "PA"]
    assert studies["study_date"].to_list() == [date(2020, 1, 31)] * 3
    assert studies["age"].to_list() == [57, 57, None]
    assert studies["sex"].to_list() == ["F", "F", None]
    assert studies["device"].to_list() == ["ACME R2"] * 3
    assert "3 DICOM files of 2 studies and 2 patients" in notes(imported)


def test_a_tree_is_decoded_into_a_cache(tree: Path) -> None:
    (tree / "a" / "IM0002.dcm").write_bytes((tree / "a" / "IM0002.dcm").read_bytes()[:-100])
    cache = build_cache(import_folder(tree).studies, tree / "cache", size=16, fit="stretch")
    assert cache.image_ids == ["1.1", "1.3"]
    assert "cut off" in cache.unreadable["reason"].item()
    image = cache.images(cache.rows(["1.3"]))[0]
    assert image[:, 0].max() == 0
    assert image[:, -1].min() == 255


def test_without_a_decoder_process_no_file_is_blamed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "_START", "raise SystemExit(1)")
    studies = import_folder(tree).studies
    with pytest.raises(MachineError, match="decoder process does not start"):
        build_cache(studies, tree / "cache", size=16)
    monkeypatch.undo()
    assert build_cache(studies, tree / "cache", size=16).unreadable.is_empty()


def test_one_file(tree: Path) -> None:
    path = tree / "b" / "x.1.2.3"
    image = read_image(path)
    assert image.shape == (HEIGHT, WIDTH)
    assert image_size(path) == (WIDTH, HEIGHT)
    with pytest.raises(InputError, match=r"x\.1\.2\.3: .*70"):
        read_image(path, pixel_limit=10)


def test_mixed_with_pictures(tree: Path) -> None:
    assert cv2.imwrite(str(tree / "c.png"), np.zeros((8, 8), np.uint8))
    with pytest.raises(InputError, match=r"1 of 4 images name no patient, such as 'c.png'.*--patients unknown"):
        import_folder(tree)
    studies = check_studies(import_folder(tree, "unknown").studies)
    assert studies["image_id"].to_list() == ["1.1", "1.2", "1.3", "c"]
    assert studies["study_id"].to_list() == ["1.2.1", "1.2.1", "1.2.2", "c"]
    assert studies["patient_id"].null_count() == 4


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_a_header_without_a_patient(tree: Path, empty: str | None) -> None:
    dicom(tree / "a" / "IM0003", "1.4", PatientID=empty)
    with pytest.raises(InputError, match=r"1 of 4 images name no patient, such as 'a/IM0003'.*no PatientID"):
        import_folder(tree)
    assert import_folder(tree, "unknown").studies.height == 4


def test_patients_that_were_replaced_by_one_name_are_told(tmp_path: Path) -> None:
    for k in range(3):
        dicom(tmp_path / str(k), f"1.{k}", StudyInstanceUID=f"2.{k}", PatientID="ANON")
    assert "name the same one" in notes(import_folder(tmp_path))


def test_what_cannot_be_used_is_counted_by_reason(tree: Path) -> None:
    dicom(tree / "raw1", "2.1", SOPClassUID=RAW)
    dicom(tree / "raw2", "2.2", PresentationIntentType="FOR PROCESSING")
    dicom(tree / "frames", "2.3", NumberOfFrames=7)
    whole = (tree / "raw1").read_bytes()
    (tree / "cut").write_bytes(whole[:400])
    imported = import_folder(tree)
    assert imported.studies.height == 3
    for words in ("2 DICOM files were left out (for-processing-image)", "1 DICOM file was left out (multi-frame)",
                  "1 DICOM file was left out (broken-header)"):  # fmt: skip
        assert words in notes(imported)


def test_nothing_usable_says_why(tmp_path: Path) -> None:
    dicom(tmp_path / "raw", "2.1", SOPClassUID=RAW)
    with pytest.raises(InputError, match=r"no PNG, JPEG or DICOM file .*for-processing-image"):
        import_folder(tmp_path)


def test_copies_are_kept_once_and_impostors_refused(tree: Path) -> None:
    (tree / "copy").write_bytes((tree / "a" / "IM0001").read_bytes())
    imported = import_folder(tree)
    assert imported.studies.height == 3
    assert "1 DICOM file is a copy of another, byte by byte, and was left out" in notes(imported)
    dicom(tree / "impostor", "1.1", ViewPosition="AP")
    with pytest.raises(InputError, match=r"'copy' and 'impostor' have one SOP instance UID and differ"):
        import_folder(tree)


def test_without_uids_the_path_stands(tmp_path: Path) -> None:
    whole = dicom(tmp_path / "x" / "a", "1.2.3.4", StudyInstanceUID="7.7.77").read_bytes()
    (tmp_path / "x" / "a").write_bytes(
        whole.replace(b"\x08\x00\x18\x00UI\x08\x001.2.3.4\0", b"").replace(b"7.7.77", b"\0" * 6)
    )
    studies = import_folder(tmp_path).studies
    assert studies["image_id"].to_list() == ["x/a"]
    assert studies["study_id"].to_list() == ["x/a"]


def by_sop(tree: Path) -> str:
    return "SOPInstanceUID,Edema\n1.1,1\n1.2,0\n1.3,-1\n"


def by_name(tree: Path) -> str:
    return "file,Edema\na/IM0001,1\nIM0002,0\nx.1.2.3,-1\n"


@pytest.mark.parametrize("table", [by_sop, by_name])
def test_labels_by_image(tree: Path, table: Callable[[Path], str]) -> None:
    (tree / "labels.csv").write_text(table(tree))
    imported = import_folder(tree, table="labels.csv")
    studies = check_studies(imported.studies)
    assert studies["image_id"].to_list() == ["1.1", "1.2", "1.3"]
    assert studies["Edema"].to_list() == [1, 0, -1]
    assert studies["patient_id"].to_list() == ["p1", "p1", "p2"]
    assert studies["study_id"].to_list() == ["1.2.1", "1.2.1", "1.2.2"]
    assert studies["view"].to_list() == ["PA", "LATERAL", "PA"]
    assert studies["age"].to_list() == [57, 57, None]
    assert imported.label_level == "image"


@pytest.mark.parametrize("first", ["", "id,"])
def test_labels_by_study(tree: Path, first: str) -> None:
    rows = [
        f"{first and str(k) + ','}{uid},{label}"
        for k, (uid, label) in enumerate([("1.2.2", 1), ("1.2.1", 0), ("9", 1)])
    ]
    (tree / "labels.csv").write_text("\n".join([f"{first}StudyInstanceUID,Mass", *rows]) + "\n")
    imported = import_folder(tree, table="labels.csv")
    studies = check_studies(imported.studies)
    assert dict(zip(studies["image_id"], studies["Mass"])) == {"1.1": 0, "1.2": 0, "1.3": 1}
    assert imported.label_level == "study"
    assert "1 rows have no file" in notes(imported)


def test_the_table_wins_and_headers_fill_what_it_lacks(tree: Path) -> None:
    (tree / "labels.csv").write_text(
        "image,patient,study,view,age,sex\n1.1,A,s,AP,30,M\n1.2,A,s,,,\nx.1.2.3,B,t,,41,\n"
    )
    studies = check_studies(import_folder(tree, table="labels.csv").studies)
    assert studies["patient_id"].to_list() == ["A", "A", "B"]
    assert studies["study_id"].to_list() == ["s", "s", "t"]
    assert studies["view"].to_list() == ["AP", "LATERAL", "PA"]
    assert studies["view_raw"].to_list() == ["AP", "LL", "PA"]
    assert studies["age"].to_list() == [30, 57, 41]
    assert studies["sex"].to_list() == ["M", "F", None]


def test_one_study_labelled_twice(tree: Path) -> None:
    (tree / "labels.csv").write_text("StudyInstanceUID,Mass\n1.2.1,1\n1.2.1,0\n")
    with pytest.raises(InputError, match="2 rows name the image"):
        import_folder(tree, table="labels.csv")


def test_a_table_that_fits_nothing(tree: Path) -> None:
    (tree / "labels.csv").write_text("StudyInstanceUID,Mass\n7.7,1\n")
    with pytest.raises(InputError, match=r"no row fits any of the 3 image files: column 'StudyInstanceUID' says '7.7'"):
        import_folder(tree, table="labels.csv")
