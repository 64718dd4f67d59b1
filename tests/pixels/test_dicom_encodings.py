"""The same picture in any encoding is the same picture; lossless syntaxes give back every bit."""

import io
from collections import Counter

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image

from hilum.pixels.dicom.admission import layout_of
from hilum.pixels.dicom.codecs import TRANSFER_SYNTAXES, Samples
from hilum.pixels.dicom.header import elements_of
from hilum.pixels.dicom.read import decode_dicom, dicom_size, read_dicom, stored_samples
from tests.pixels.dicom_files import (
    BIG,
    EXPLICIT,
    IMPLICIT,
    J2K,
    JLS,
    LOSSLESS,
    LOSSLESS_SV1,
    RLE,
    chest,
    dicom,
    frame_of,
)
from tests.pixels.encodings import Encoding, encodings

ENCODINGS = list(encodings())
CHEST = chest()


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: f"{encoding.group}: {encoding.name}")
def test_the_picture_comes_back(encoding: Encoding) -> None:
    rendered = read_dicom(encoding.data)
    assert rendered.image.dtype == np.uint8
    assert rendered.image.shape == CHEST.shape
    assert np.abs(rendered.image.astype(int) - CHEST).max() <= encoding.levels
    assert "polarity-doubtful" not in rendered.provenance.warnings
    assert (decode_dicom(encoding.data, at_least=64) == rendered.image).all()


def test_there_are_many_encodings_and_no_two_alike() -> None:
    assert len(ENCODINGS) >= 60
    assert max(Counter(encoding.data for encoding in ENCODINGS).values()) == 1
    assert max(Counter((encoding.group, encoding.name) for encoding in ENCODINGS).values()) == 1


def test_every_transfer_syntax_is_among_them() -> None:
    assert {read_dicom(encoding.data).provenance.transfer_syntax for encoding in ENCODINGS} == set(TRANSFER_SYNTAXES)


def stored(data: bytes) -> Samples:
    elements = elements_of(data)
    return stored_samples(elements, layout_of(elements)).samples


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, RLE, LOSSLESS, LOSSLESS_SV1, JLS, J2K])
@pytest.mark.parametrize("bits", [8, 9, 12, 16])
def test_lossless_is_bit_exact(syntax: str, bits: int) -> None:
    noise = np.random.default_rng(bits).integers(0, 1 << bits, (67, 129)).astype(np.uint8 if bits <= 8 else np.uint16)
    assert (stored(dicom(noise, syntax=syntax, bits=bits)) == noise).all()


@pytest.mark.parametrize("syntax", [LOSSLESS, LOSSLESS_SV1, JLS, J2K, RLE])
def test_a_second_decoder_agrees(syntax: str) -> None:
    """Of other code for JPEG lossless and RLE; of another package around the same library for JPEG-LS and JPEG 2000."""
    noise = np.random.default_rng(1).integers(0, 4096, (67, 129)).astype(np.uint16)
    frame = frame_of(noise, syntax, 12)
    second = {
        LOSSLESS: imagecodecs.ljpeg_decode,
        LOSSLESS_SV1: imagecodecs.jpegsof3_decode,
        JLS: imagecodecs.jpegls_decode,
        J2K: imagecodecs.jpeg2k_decode,
        RLE: lambda data: packbits(data, noise.shape),
    }[syntax]
    assert (second(frame) == noise).all()
    assert (stored(dicom(noise, syntax=syntax)) == second(frame)).all()


def packbits(frame: bytes, shape: tuple[int, int]) -> np.ndarray:
    high, low = np.frombuffer(frame, "<u4", 2, 4)
    planes = [
        np.frombuffer(imagecodecs.packbits_decode(part), np.uint8)[: shape[0] * shape[1]].reshape(shape)
        for part in (frame[high:low], frame[low:])
    ]
    return planes[0].astype(np.uint16) << 8 | planes[1]


# those that pydicom has a decoder for: JPEG lossless would take a GPL plugin
FOR_PYDICOM = [
    encoding
    for encoding in ENCODINGS
    if encoding.group in ("depth", "layout") and LOSSLESS.encode() not in encoding.data and LOSSLESS_SV1.encode() not in encoding.data
]  # fmt: skip


@pytest.mark.parametrize("encoding", FOR_PYDICOM, ids=lambda encoding: encoding.name)
def test_pydicom_finds_the_same_numbers(encoding: Encoding) -> None:
    """Spare bits apart, which it leaves in."""
    dataset = pydicom.dcmread(io.BytesIO(encoding.data))
    bits = (1 << dataset.BitsStored) - 1
    assert (dataset.pixel_array.astype(np.int64) & bits == stored(encoding.data).astype(np.int64) & bits).all()


def test_components_of_a_jpeg_mean_what_the_header_says() -> None:
    """Decoders guess from markers whether to convert; the guess must play no part."""
    grey = chest()
    rgb = np.dstack([grey] * 3)
    frame = imagecodecs.jpeg_encode(rgb, level=100, colorspace="RGB", outcolorspace="YCBCR")
    raw = np.asarray(Image.open(io.BytesIO(frame)).convert("YCbCr"))
    data = dicom(rgb, syntax="1.2.840.10008.1.2.4.50", bits=8, photometric="YBR_FULL_422", frame=frame)
    assert np.abs(stored(data)[..., 0].astype(int) - raw[..., 0]).max() <= 1
    assert np.abs(stored(data)[..., 1].astype(int) - 128).max() <= 1


def test_the_size_is_that_of_the_stored_pixels() -> None:
    assert dicom_size(dicom(CHEST, bits=8)) == (CHEST.shape[1], CHEST.shape[0])
    assert dicom_size(dicom(CHEST, bits=8)[:2000]) == (CHEST.shape[1], CHEST.shape[0])
