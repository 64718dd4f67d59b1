"""What a study table takes from DICOM headers: ids, view, date, age, sex, device; little is read, nothing odd is raised."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from hilum.errors import UnreadableImage
from hilum.pixels.codes import REFUSALS
from hilum.pixels.dicom.read import read_dicom, read_dicom_header
from tests.pixels.dicom_files import BIG, CT, EXPLICIT, IMPLICIT, J2K, ROOT, chest, dicom

GREY = chest()


def header_of(**elements: Any) -> Any:
    return read_dicom_header(dicom(GREY, bits=8, **elements))


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, J2K])
def test_all_fields(syntax: str, tmp_path: Path) -> None:
    data = dicom(GREY, bits=8, syntax=syntax, PatientAge="057Y")
    (tmp_path / "a.dcm").write_bytes(data)
    header = read_dicom_header(tmp_path / "a.dcm")
    assert header == read_dicom_header(data) == read_dicom_header(str(tmp_path / "a.dcm"))
    assert (header.study_uid, header.series_uid, header.sop_uid) == (ROOT + "1", ROOT + "2", ROOT + "3")
    assert (header.patient_id, header.sex, header.age, header.device) == ("P17", "F", 57.0, "ACME X 1")
    assert (header.view, header.view_raw, header.study_date) == ("PA", "PA", date(2024, 2, 29))
    assert (header.rows, header.columns, header.problem) == (*GREY.shape, None)


def code(value: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "words"
    return [item]


@pytest.mark.filterwarnings("ignore:Invalid value")
@pytest.mark.parametrize(
    ("position", "codes", "view", "raw"),
    [
        ("PA", None, "PA", "PA"),
        ("AP", None, "AP", "AP"),
        ("ap_horizontal", None, "AP", "ap_horizontal"),
        ("LL", None, "LATERAL", "LL"),
        ("RL", None, "LATERAL", "RL"),
        ("LATERAL", None, "LATERAL", "LATERAL"),
        ("LLD", None, "unknown", "LLD"),
        ("RLO", None, "unknown", "RLO"),
        ("PAS", None, "unknown", "PAS"),
        (None, "272479007", "PA", "272479007"),
        (None, "399348003", "AP", "399348003"),
        ("", "399067008", "LATERAL", "399067008"),
        ("", "399173006", "LATERAL", "399173006"),
        ("", "399198007", "LATERAL", "399198007"),
        (None, "R-10206", "AP", "R-10206"),
        ("AP", "272479007", "AP", "AP"),
        ("STANDING", "272479007", "PA", "272479007"),
        (None, "399033003", "unknown", "399033003"),  # frontal, but which?
        (None, None, "unknown", None),
    ],
)
def test_views(position: str | None, codes: str | None, view: str, raw: str | None) -> None:
    for syntax in (EXPLICIT, IMPLICIT, BIG):
        elements = {"ViewCodeSequence": code(codes)} if codes else {}
        data = dicom(GREY, bits=8, syntax=syntax, ViewPosition=position, SeriesDescription="LATERAL", **elements)
        header = read_dicom_header(data)
        assert (header.view, header.view_raw) == (view, raw)
        assert read_dicom(data).provenance.view == view


@pytest.mark.filterwarnings("ignore:Invalid value")
@pytest.mark.parametrize(
    ("said", "age"), [("057Y", 57), ("006M", 0.5), ("010D", 0.03), ("57", 64), ("", 64), ("999Y", None), (None, 64)]
)
def test_ages(said: str | None, age: float | None) -> None:
    assert header_of(PatientAge=said).age == (None if age is None else pytest.approx(age, abs=0.01))


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_what_makes_no_sense_is_none() -> None:
    header = header_of(StudyDate="20240230", PatientSex="O", PatientBirthDate="1960", Manufacturer=None, ManufacturerModelName="ACME 2")  # fmt: skip
    assert (header.study_date, header.sex, header.age, header.device) == (None, None, None, "ACME 2")
    assert header_of(StudyDate="2024.02.29").study_date == date(2024, 2, 29)
    assert header_of(PatientBirthDate="20300101").age is None
    assert header_of(Manufacturer="ACME", ManufacturerModelName="Acme  DR 7").device == "Acme DR 7"
    nobody = header_of(PatientID=None, StudyInstanceUID=None)
    assert (nobody.patient_id, nobody.study_uid) == (None, None)


def test_character_sets() -> None:
    data = dicom(GREY, bits=8, SpecificCharacterSet="ISO_IR 192", PatientID="Jörg-7")
    assert read_dicom_header(data).patient_id == "Jörg-7"
    data = dicom(GREY, bits=8, SpecificCharacterSet="ISO_IR 100", PatientID="Jörg-7")
    assert read_dicom_header(data).patient_id == "Jörg-7"


def test_little_of_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = np.zeros((4000, 4000), np.uint16)
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(large))
    taken = []

    class Watched:
        def __init__(self, file: Any):
            self.file = file

        def __enter__(self) -> "Watched":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def read(self, size: int) -> bytes:
            taken.append(size)
            return bytes(self.file.read(size))

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode: Watched(opened(self, mode)))
    assert read_dicom_header(path).rows == 4000
    assert sum(taken) <= 1 << 18


def test_a_long_header_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(GREY, bits=8, change=lambda ds: ds.add_new(0x00091010, "OB", b"\0" * 600_000)))
    assert read_dicom_header(path).rows == GREY.shape[0]


def test_private_sequences_are_passed_over() -> None:
    def change(ds: Dataset) -> None:
        item = Dataset()
        item.Rows, item.PatientID = 7, "another"
        item.add_new(0x7FE00010, "OB", b"\0\0")
        ds.add_new(0x00091001, "SQ", [item, item])
        ds[0x00091001].is_undefined_length = True
        item.is_undefined_length_sequence_item = True

    for syntax in (EXPLICIT, IMPLICIT, BIG):
        header = read_dicom_header(dicom(GREY, bits=8, syntax=syntax, change=change))
        assert (header.rows, header.patient_id, header.problem) == (GREY.shape[0], "P17", None)


def test_what_cannot_be_read_is_told_by_a_code() -> None:
    for problem, elements in {
        "unsupported-sop-class": {"SOPClassUID": CT},
        "for-processing-image": {"PresentationIntentType": "FOR PROCESSING"},
        "multi-frame": {"NumberOfFrames": 3},
        "too-small": {"Rows": 8},
        "broken-header": {"Rows": None},
    }.items():
        assert header_of(**elements).problem == problem
        assert problem in REFUSALS
    for frames in (None, 0, 1, ""):
        assert header_of(NumberOfFrames=frames).problem is None


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"\x89PNG" + b"\0" * 500)
    for path in (tmp_path / "a.dcm", tmp_path / "none.dcm", tmp_path):
        with pytest.raises(UnreadableImage) as caught:
            read_dicom_header(path)
        assert str(path) in str(caught.value)
    with pytest.raises(UnreadableImage):
        read_dicom_header(b"")


def test_mirrored_films_are_turned_and_laterals_left() -> None:
    mirrored = np.ascontiguousarray(GREY[:, ::-1])
    rendered = read_dicom(dicom(mirrored, bits=8, PatientOrientation=["R", "F"]))
    assert (rendered.image == GREY).all()
    assert rendered.provenance.flipped
    lateral = read_dicom(dicom(mirrored, bits=8, PatientOrientation=["R", "F"], ViewPosition="LL"))
    assert (lateral.image == mirrored).all()
    assert not lateral.provenance.flipped


def test_provenance_is_plain_and_complete() -> None:
    window = {"WindowCenter": [100, 2], "WindowWidth": [300, 2], "WindowCenterWidthExplanation": ["NORMAL", "Doe^Jane"]}
    made = read_dicom(dicom(GREY, bits=8, **window)).provenance.as_dict()
    assert made["decoder"].startswith("pydicom 3.")
    assert (made["voi"], made["voi_index"], made["windows"], made["voi_explanations"]) == ("window", 0, 2, 2)
    assert (made["window_center"], made["window_width"], made["window_function"]) == (100.0, 300.0, "LINEAR")
    assert (made["rows"], made["columns"], made["bits_stored"], made["signed"]) == (*GREY.shape, 8, False)
    assert (made["view"], made["view_raw"], made["flipped"], made["padding"], made["aspect"]) == (
        "PA",
        "PA",
        False,
        None,
        None,
    )
    assert "Doe" not in repr(made)
    assert all(isinstance(v, str | int | float | bool | list | None) for v in made.values())
