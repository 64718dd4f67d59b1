"""What a person may give to predict: a folder of images, DICOM files among them, whatever they are called, of which study."""

from pathlib import Path

import numpy as np
import pytest

from hilum.errors import InputError
from hilum.inference.given import studies_of
from tests.pixels.dicom_files import chest, dicom
from tests.pixels.files import picture, png


def film(seed: int, **tags: str) -> bytes:
    return dicom(np.roll(chest(), seed).astype(np.uint16), **{"SOPInstanceUID": f"1.5.{seed}", **tags})


def test_a_folder_of_images(tmp_path: Path) -> None:
    for name, data in (("IM0001", film(1)), ("1.2.840.7", film(2)), ("a.dcm", film(3)), ("b.png", png(picture())), ("DICOMDIR", film(4)),
                       ("readme", b"no image"), ("labels.csv", b"a,b\n")):  # fmt: skip
        (tmp_path / name).write_bytes(data)
    assert [Path(path).name for path in studies_of(tmp_path)["path"]] == ["1.2.840.7", "IM0001", "a.dcm", "b.png"]


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Two views of one study and one of another, of one patient; two pictures without a word; a copy; one that is not read."""
    one, two = {"StudyInstanceUID": "1.2.3"}, {"StudyInstanceUID": "1.2.4"}
    named = {
        "pa": film(1, SOPInstanceUID="1.1", PatientID="P", ViewPosition="PA", **one),
        "side": film(2, SOPInstanceUID="1.2", PatientID="P", ViewPosition="LATERAL", **one),
        "later.dcm": film(3, SOPInstanceUID="1.3", PatientID="P", ViewPosition="AP", **two),
        "raw.dcm": film(4, SOPInstanceUID="1.4", SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1.1", **two),
        "x.png": png(picture()),
        "y.png": png(picture()),
    }
    for name, data in {**named, "zcopy.dcm": named["later.dcm"]}.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_dicom_files_by_their_studies_and_other_files_alone(films: Path) -> None:
    table = studies_of(films)
    told = {
        Path(path).name: (study, view) for path, study, view in table.select("path", "study_id", "view").iter_rows()
    }
    assert told["pa"] == ("1.2.3", "PA")
    assert told["side"] == ("1.2.3", "LATERAL")
    assert told["later.dcm"] == ("1.2.4", "AP")
    assert "zcopy.dcm" not in told
    for name in ("raw.dcm", "x.png", "y.png"):  # that one is listed as unreadable when it is decoded
        assert told[name] == (str(films / name), "unknown")
    assert table["image_id"].n_unique() == table.height == 6


def test_one_study(films: Path) -> None:
    pictures = [films / "x.png", films / "y.png", films / "pa"]
    table = studies_of(pictures, one_study=True)
    assert table["study_id"].n_unique() == 1
    assert table["image_id"].n_unique() == 3
    assert table["view"].to_list() == ["unknown", "unknown", "PA"]
    assert set(table["patient_id"]) == {"P"}
    (films / "other").write_bytes(film(5, SOPInstanceUID="1.9", PatientID="Q"))
    with pytest.raises(InputError, match="2 patients"):
        studies_of(films, one_study=True)


def test_a_table_says_itself_what_its_studies_are(films: Path) -> None:
    with pytest.raises(InputError, match="one-study"):
        studies_of(films / "s.parquet", one_study=True)
    with pytest.raises(InputError, match="no such file"):
        studies_of(films / "absent.png")
