"""Files that ask for far more work than their size shows are refused by counting, before a decoder runs; honest ones pass."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from hilum.errors import UnreadableImage
from hilum.pixels.dicom.read import read_dicom
from hilum.pixels.header import check_stream, read_header
from hilum.pixels.raster import decode_raster
from tests.pixels import dicom_files as d
from tests.pixels.files import chunk, picture, png, rows_of

GREY = picture(64, 80)
KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (4, 8), (4, 16), (6, 8), (6, 16)]  # colour, depth


@pytest.mark.parametrize(
    ("colour", "depth", "interlaced"),
    [(*kind, False) for kind in KINDS] + [(*kind, True) for kind in KINDS if kind[1] >= 8],
)
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (200, 1), (1, 200), (61, 37)])
def test_an_honest_png_is_no_bomb(colour: int, depth: int, interlaced: bool, shape: tuple[int, int]) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    samples = np.zeros((*shape, channels), np.uint16 if depth == 16 else np.uint8)
    data = png(samples, depth=depth, colour=colour, interlaced=interlaced)
    check_stream(data, read_header(data))


def test_a_png_that_unpacks_to_more_than_its_pixels() -> None:
    data = png(GREY, stream=zlib.compress(rows_of(GREY) + bytes(100_000)))
    with pytest.raises(UnreadableImage, match="more data than its pixels"):
        check_stream(data, read_header(data))


def test_png_chunks_are_counted() -> None:
    some, many = (png(GREY, before=chunk(b"teSt", b"") * count) for count in (50_000, 100_001))
    assert (decode_raster(some) == GREY).all()
    with pytest.raises(UnreadableImage, match="too many chunks"):
        decode_raster(many)


def test_many_wide_samples_count_as_many_pixels() -> None:
    wide = png(np.zeros((10, 10, 4), np.uint16), depth=16, colour=6)
    assert decode_raster(wide, pixel_limit=400).shape == (10, 10)
    with pytest.raises(UnreadableImage, match="over the limit") as caught:
        decode_raster(wide, pixel_limit=399)
    assert caught.value.code == "too-many-pixels"
    assert decode_raster(png(GREY), pixel_limit=GREY.size).shape == GREY.shape


def test_jpeg_scans_and_segments_are_counted() -> None:
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "JPEG", progressive=True)
    whole = buffer.getvalue()
    assert decode_raster(whole).shape == GREY.shape
    last = whole[whole.rindex(b"\xff\xda") : -2]
    with pytest.raises(UnreadableImage, match="too many segments or scans"):
        decode_raster(whole[:-2] + last * 100 + whole[-2:])
    with pytest.raises(UnreadableImage, match="too many segments or scans"):
        decode_raster(whole[:2] + b"\xff\xe5\x00\x02" * 100_001 + whole[2:])


def test_markers_ahead_of_a_frame_are_counted() -> None:
    stream = imagecodecs.jpeg_encode(GREY)
    file = {"syntax": d.BASELINE, "bits": 8}
    for extra in (b"\xff\xe5\x00\x02", b"\xff"):
        some, many = (d.dicom(GREY, frame=stream[:2] + extra * count + stream[2:], **file) for count in (100, 10_000))
        assert read_dicom(some).image.shape == GREY.shape
        with pytest.raises(UnreadableImage):
            read_dicom(many)


def test_jpeg_2000_tiles_are_counted() -> None:
    def tiled(side: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(np.zeros((640, 640), np.uint8)).save(
            buffer, "JPEG2000", no_jp2=True, tile_size=(side, side), num_resolutions=1
        )
        return d.dicom(np.zeros((640, 640), np.uint8), syntax=d.J2K, bits=8, frame=buffer.getvalue())

    assert read_dicom(tiled(16)).image.shape == (640, 640)
    with pytest.raises(UnreadableImage, match="tiles"):
        read_dicom(tiled(8))


@pytest.mark.parametrize("segment", [b"\x80" * 1025, b"\x80" * 3 * GREY.size])
def test_rle_that_says_nothing(segment: bytes) -> None:
    honest = d.frame_of(GREY, d.RLE, 8)
    head, body = struct.pack("<16I", 1, 64, *[0] * 14), honest[64:]
    assert read_dicom(d.dicom(GREY, syntax=d.RLE, bits=8, frame=head + b"\x80" * 100 + body)).image.shape == GREY.shape
    with pytest.raises(UnreadableImage, match="RLE data do not fit"):
        read_dicom(d.dicom(GREY, syntax=d.RLE, bits=8, frame=head + segment + body))
