"""Every kind of PNG and JPEG gives the picture that an independent reader gives; what is broken is refused, never half drawn."""

import io
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from hilum.errors import UnreadableImage
from hilum.pixels.read import image_size, read_image
from tests.pixels.files import chunk, picture, png, rows_of, save

Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")

GREY = picture()
COLOUR = np.dstack([GREY, GREY[::-1], 255 - GREY])
ALPHA = picture(*GREY.shape[:2])[:, ::-1]
PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
PLTE = chunk(b"PLTE", PALETTE.tobytes())


def luma(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(np.float64) @ (0.299, 0.587, 0.114)


def over_black(grey: np.ndarray, alpha: np.ndarray, full: int = 255) -> np.ndarray:
    return grey.astype(np.float64) * alpha / full


def pillow(data: bytes, mode: str = "L") -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode))


LOSSLESS = {
    "grey 1 bit": (png(GREY >> 7, depth=1), (GREY >> 7) * 255.0),
    "grey 2 bit": (png(GREY >> 6, depth=2), (GREY >> 6) * 85.0),
    "grey 4 bit": (png(GREY >> 4, depth=4), (GREY >> 4) * 17.0),
    "grey 8 bit": (png(GREY), GREY),
    "grey 8 bit, interlaced": (png(GREY, interlaced=True), GREY),
    "grey, key colour": (png(GREY, before=chunk(b"tRNS", b"\0\xff")), GREY),
    "grey and alpha": (png(np.dstack([GREY, ALPHA]), colour=4), over_black(GREY, ALPHA)),
    "colour": (png(COLOUR, colour=2), luma(COLOUR)),
    "colour, key colour": (png(COLOUR, colour=2, before=chunk(b"tRNS", b"\0\1" * 3)), luma(COLOUR)),
    "colour and alpha": (png(np.dstack([COLOUR, ALPHA]), colour=6), over_black(luma(COLOUR), ALPHA)),
    "palette": (png(GREY, colour=3, before=PLTE), luma(PALETTE[GREY])),
    "palette, 4 bit": (png(GREY >> 4, depth=4, colour=3, before=chunk(b"PLTE", PALETTE[:16].tobytes())), luma(PALETTE[GREY >> 4])),
    "palette and alpha": (
        png(GREY, colour=3, before=PLTE + chunk(b"tRNS", bytes(range(256)))), over_black(luma(PALETTE[GREY]), GREY),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LOSSLESS)
def test_png_shows_the_picture(kind: str, tmp_path: Path) -> None:
    data, expected = LOSSLESS[kind]
    image = read_image(save(tmp_path / "a.png", data))
    assert image.dtype == np.uint8
    assert image.shape == GREY.shape
    assert np.abs(image - expected).max() <= 1.0
    if "alpha" in kind:
        laid = Image.new("RGBA", GREY.shape[::-1], "black")
        laid.alpha_composite(Image.open(io.BytesIO(data)).convert("RGBA"))
        assert np.abs(image - luma(np.asarray(laid)[..., :3])).max() <= 1.5
    else:
        assert np.abs(image.astype(int) - pillow(data)).max() <= 1


@pytest.mark.parametrize("top", [255, 1023, 4095, 65535])
def test_16_bits_keep_their_values(top: int, tmp_path: Path) -> None:
    values = picture(top=top).astype(np.uint16)
    for samples, colour in ((values, 0), (np.dstack([values] * 3), 2), (np.dstack([values, values | 65535]), 4)):
        image = read_image(save(tmp_path / "a.png", png(samples, depth=16, colour=colour)))
        assert image.dtype == np.uint16
        assert np.abs(image.astype(int) - values).max() <= 1
    data = png(values, depth=16)
    assert (np.asarray(Image.open(io.BytesIO(data))) == values).all()


def jpeg(image: np.ndarray, mode: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).convert(mode).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


JPEGS = {
    "grey": jpeg(GREY, "L"),
    "colour": jpeg(COLOUR, "RGB", subsampling=0),
    "progressive": jpeg(GREY, "L", progressive=True),
    "colour, progressive": jpeg(COLOUR, "RGB", progressive=True, subsampling=0),
    "stored as RGB": jpeg(COLOUR, "RGB", keep_rgb=True),
    "restarts": jpeg(GREY, "L", restart_marker_blocks=2),
    "CMYK": jpeg(COLOUR, "CMYK", subsampling=0),
}


@pytest.mark.parametrize("kind", JPEGS)
def test_jpeg_shows_the_picture(kind: str, tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.jpg", JPEGS[kind]))
    apart = np.abs(image.astype(int) - pillow(JPEGS[kind]))
    assert image.shape == GREY.shape
    assert apart.mean() < 1.0
    assert apart.max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_is_applied(orientation: int, kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file.getvalue()))))
    path = save(tmp_path / "a", file.getvalue())
    image = read_image(path)
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).max() <= (3 if kind == "JPEG" else 0)
    assert image_size(path) == GREY.shape[::-1]


def test_the_bytes_decide_not_the_name(tmp_path: Path) -> None:
    assert (read_image(save(tmp_path / "really.jpg", png(GREY))) == GREY).all()
    for data, said in (
        (b"patient,finding\n1,Edema\n", "not an image"), (b"", "empty"), (b"GIF89a" + bytes(200), "GIF"),
        (bytes(128) + b"DICM" + bytes(50), "DICOM"), (b"\x1f\x8b" + bytes(50), "gzip"), (b"RIFF1234WEBP", "WebP"),
    ):  # fmt: skip
        path = save(tmp_path / "a.png", data)
        with pytest.raises(UnreadableImage, match=said) as caught:
            read_image(path)
        assert str(path) in str(caught.value)
        assert caught.value.do


@pytest.mark.parametrize("what", ["absent.png", "."])
def test_no_file_is_told(what: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match=r"Check|Choose"):
        read_image(tmp_path / what)


def test_bombs_are_refused_at_the_header(tmp_path: Path) -> None:
    jpeg_bomb = JPEGS["grey"].replace(b"\xff\xc0\x00\x0b\x08\x00\x30\x00\x3d", b"\xff\xc0\x00\x0b\x08\xea\x60\xea\x60")
    assert jpeg_bomb != JPEGS["grey"]
    for data in (png(GREY, size=(50_000, 50_000)), jpeg_bomb):
        path = save(tmp_path / "bomb", data)
        start = time.perf_counter()
        with pytest.raises(UnreadableImage, match="limit of 100 million"):
            read_image(path)
        assert time.perf_counter() - start < 0.05
    with pytest.raises(UnreadableImage, match="limit"):
        read_image(save(tmp_path / "a", png(GREY)), pixel_limit=GREY.size - 1)


@pytest.mark.parametrize("kind", ["PNG", "PNG palette", *JPEGS])
def test_a_file_cut_off_anywhere_is_refused(kind: str, tmp_path: Path) -> None:
    data = {"PNG": png(GREY), "PNG palette": LOSSLESS["palette and alpha"][0], **JPEGS}[kind]
    for tenth in range(10):
        with pytest.raises(UnreadableImage):
            read_image(save(tmp_path / "cut", data[: len(data) * tenth // 10]))
    with pytest.raises(UnreadableImage):
        read_image(save(tmp_path / "cut", data[:-1]))


def test_a_thumbnail_s_end_is_not_the_picture_s(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 10 + JPEGS["grey"].decode("latin-1")
    data = jpeg(GREY, "L", exif=b"Exif\0\0II*\0" + bytes(20) + JPEGS["grey"])
    assert read_image(save(tmp_path / "a", data)).shape == GREY.shape
    with pytest.raises(UnreadableImage, match="cut off"):
        read_image(save(tmp_path / "a", data[: len(data) - 300]))


def test_a_png_with_any_flipped_byte_is_refused(tmp_path: Path) -> None:
    data = bytearray(png(GREY))
    for place in range(0, len(data), 37):
        data[place] ^= 0x10
        with pytest.raises(UnreadableImage):
            read_image(save(tmp_path / "a", bytes(data)))
        data[place] ^= 0x10


def test_a_png_whose_pixels_do_not_fill_it_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import zlib

    packed = zlib.compress(rows_of(GREY))
    for stream in (zlib.compress(rows_of(GREY[:20])), packed[: len(packed) // 2], packed[:-4] + b"1234", b""):
        with pytest.raises(UnreadableImage, match="pixels"):
            read_image(save(tmp_path / "a", png(GREY, stream=stream)))


def test_strange_headers_are_refused(tmp_path: Path) -> None:
    animated = png(GREY, before=chunk(b"acTL", bytes(8)))
    plain = JPEGS["CMYK"].replace(b"Adobe", b"Abode")
    for data, said in ((png(GREY, depth=3), "does not exist"), (png(GREY, size=(0, 5)), "pixels"), (animated, "animated"),
                       (plain, "inks"), (JPEGS["grey"].replace(b"\xff\xc0", b"\xff\xc3"), "lossless")):  # fmt: skip
        with pytest.raises(UnreadableImage, match=said):
            read_image(save(tmp_path / "a", data))


def test_text_and_profiles_in_a_png_do_not_reach_the_decoder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    strange = chunk(b"iCCP", b"ICC Profile\0\0junk") + chunk(b"tEXt", b"Comment\0ill") + chunk(b"gAMA", b"\0\0\0\1")
    assert (read_image(save(tmp_path / "a", png(GREY, before=strange))) == GREY).all()
    assert capfd.readouterr().err == ""


def test_big_jpegs_are_decoded_smaller(tmp_path: Path) -> None:
    big = picture(2000, 2400)
    path = save(tmp_path / "a", cv2.imencode(".jpg", big)[1].tobytes())
    assert read_image(path).shape == (2000, 2400)
    assert read_image(path, at_least=1001).shape == (2000, 2400)
    assert read_image(path, at_least=500).shape == (500, 600)
    assert read_image(path, at_least=10).shape == (250, 300)


@pytest.mark.parametrize("kind", ["grey", "progressive", "colour"])
def test_a_jpeg_that_is_damaged_inside_is_refused(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its beginning and its end are right, so only the decoder can tell, which must be asked to be strict."""
    data = JPEGS[kind]
    middle = len(data) * 3 // 4
    for broken in (data[:middle] + bytes(60) + data[middle + 60 :], data[:middle] + b"\xff\xd9"):
        with pytest.raises(UnreadableImage, match="damaged inside"):
            read_image(save(tmp_path / "a", broken))
    assert capfd.readouterr().err == ""
