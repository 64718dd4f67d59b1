"""From a picture of any shape and depth to the square that a model sees."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from hilum.errors import InputError
from hilum.pixels.read import read_image, read_pixels, render
from hilum.pixels.spec import PixelSpec
from tests.pixels.files import picture, save

NIH = Path(os.environ.get("HILUM_NIH", Path(__file__).parents[3] / "shared" / "data" / "nih"))


@pytest.mark.parametrize("fit", ["pad", "stretch", "crop"])
@pytest.mark.parametrize("shape", [(48, 61), (61, 48), (200, 90), (20, 33), (64, 64), (1, 500)])
def test_any_shape_becomes_a_square(fit: str, shape: tuple[int, int]) -> None:
    image = render(picture(*shape), PixelSpec(64, fit))  # type: ignore[arg-type]
    assert image.shape == (64, 64)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


def test_pad_keeps_the_whole_picture_in_the_middle_on_black() -> None:
    image = render(np.full((50, 100), 200, np.uint8), PixelSpec(64))
    assert (image[16:48] == 200).all()
    assert (image[:16] == 0).all()
    assert (image[48:] == 0).all()


def test_crop_takes_the_middle() -> None:
    wide = np.zeros((64, 128), np.uint8)
    wide[:, 32:96] = 9
    assert (render(wide, PixelSpec(64, "crop")) == 9).all()


def test_stretch_fills_the_square() -> None:
    assert (render(np.full((50, 100), 200, np.uint8), PixelSpec(64, "stretch")) == 200).all()


@pytest.mark.parametrize(("top", "depth"), [(200, 8), (900, 10), (1023, 10), (1024, 12), (3000, 12), (4095, 12), (9000, 14), (65535, 16), (20000, 16)])  # fmt: skip
def test_16_bits_are_scaled_by_the_depth_that_they_use(top: int, depth: int) -> None:
    values = np.linspace(0, top, 64 * 64).reshape(64, 64).astype(np.uint16)
    image = render(values, PixelSpec(64))
    assert np.abs(image - values * 255.0 / (2**depth - 1)).max() <= 0.5 + 1e-9


def test_a_black_16_bit_picture_stays_black() -> None:
    assert not render(np.zeros((30, 30), np.uint16), PixelSpec(64)).any()


def test_equalizing_spreads_the_greys_and_the_border_has_no_part_in_it() -> None:
    dull = (100 + picture(64, 128) // 8).astype(np.uint8)
    whole = render(dull, PixelSpec(128, tone="equalize_hist"))
    assert (whole[32:96] == cv2.equalizeHist(dull)).all()
    assert (render(dull, PixelSpec(128, tone="window"))[32:96] == dull).all()


def test_a_reduced_jpeg_renders_like_the_whole(tmp_path: Path) -> None:
    large = cv2.resize(picture(200, 240), (2400, 2000), interpolation=cv2.INTER_CUBIC)
    path = save(tmp_path / "a", cv2.imencode(".jpg", large)[1].tobytes())
    spec = PixelSpec(224)
    apart = np.abs(read_pixels(path, spec).astype(int) - render(read_image(path), spec))
    assert apart.mean() < 0.5


def test_specs_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="'stretch'"):
        PixelSpec(64, "strech")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="16 to 4096"):
        PixelSpec(4)


@pytest.mark.skipif(not NIH.is_dir(), reason="ChestX-ray14 is not here (set HILUM_NIH to its folder)")
def test_real_copies_of_one_image_agree() -> None:
    for small in sorted((NIH / "images_256").glob("*.png"))[:8]:
        large = NIH / "images_1024" / small.name
        if large.exists():
            apart = np.abs(read_pixels(large, PixelSpec(256)).astype(int) - read_pixels(small, PixelSpec(256)))
            assert apart.mean() < 2
