"""What a person may give to predict: a folder of images, DICOM files among them, whatever they are called."""

from pathlib import Path

import numpy as np

from hilum.inference.predict import studies_of
from tests.pixels.dicom_files import chest, dicom
from tests.pixels.files import picture, png


def test_a_folder_of_images(tmp_path: Path) -> None:
    film = dicom(chest().astype(np.uint16))
    for name, data in (("IM0001", film), ("1.2.840.7", film), ("a.dcm", film), ("b.png", png(picture())), ("DICOMDIR", film),
                       ("readme", b"no image"), ("labels.csv", b"a,b\n")):  # fmt: skip
        (tmp_path / name).write_bytes(data)
    assert [Path(path).name for path in studies_of(tmp_path)["path"]] == ["1.2.840.7", "IM0001", "a.dcm", "b.png"]
