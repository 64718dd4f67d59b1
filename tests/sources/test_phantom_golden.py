"""The phantom's drawing is frozen: sixteen stored images are drawn again, to one grey level, on any machine."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from hilum.sources.phantom.difficulty import VERSION
from tests.sources.golden_phantom import FOLDER, NUMBER, choose, drawn

STORED = sorted(FOLDER.glob("*.png"))


def test_there_are_sixteen_and_they_are_those_that_show_most() -> None:
    assert VERSION == 1
    assert sorted(choose()) == [path.stem for path in STORED]
    assert len(STORED) == NUMBER


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_a_stored_image_is_met_within_one_grey_level(path: Path) -> None:
    stored = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert np.abs(stored.astype(int) - drawn(path.stem).astype(int)).max() <= 1
