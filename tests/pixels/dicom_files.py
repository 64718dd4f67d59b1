"""DICOM files for tests, made by hand: any stored values, in any transfer syntax, under any header."""

import io
from collections.abc import Callable
from typing import Any

import imagecodecs
import jpeg_ls
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels import get_encoder
from pydicom.uid import UID

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
BASELINE, EXTENDED, LOSSLESS, LOSSLESS_SV1, JLS, JLS_NEAR, J2K, J2K_LOSSY, HTJ2K = (
    f"1.2.840.10008.1.2.4.{tail}" for tail in (50, 51, 57, 70, 80, 81, 90, 91, 201)
)
CR, DX, DX_PROCESSING, SECONDARY, CT = (f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in ("1", "1.1", "1.1.1", "7", "2"))
ROOT = "1.2.826.0.1.3680043.8.498."  # of UIDs

Encoder = Callable[[np.ndarray, int], bytes]  # (values, bits) -> one frame


def chest(height: int = 192, width: int = 160) -> np.ndarray:
    """A picture (H, W) uint8 that reads like a chest: black frame, dark corners and lungs, bright middle, a white marker.

    All 256 levels occur; at least 1 % of the pixels are black and 1 % white.
    """
    y, x = np.mgrid[0:height, 0:width]
    v, u = y / height - 0.5, x / width - 0.5
    body = np.exp(-((u / 0.36) ** 4) - ((v - 0.12) / 0.52) ** 4)
    lungs = np.exp(-((np.abs(u) - 0.2) ** 2) / 0.008 - (v**2) / 0.05)
    levels = 255 * (1.05 * body - 0.62 * lungs + 0.02 * np.sin(y / 3) * np.cos(x / 5) * body)
    levels = (levels - 8) * 255 / 247
    levels[12:30, 20:44] = 255  # no turn or flip of the picture looks the same
    levels[:6], levels[-6:], levels[:, :6], levels[:, -6:] = 0, 0, 0, 0
    levels[-20:-10, 20:148] = np.linspace(0, 255, 128)
    levels[-30:-20, 20:148] = np.linspace(1, 254, 128)
    return np.rint(levels.clip(0, 255)).astype(np.uint8)


def _rle(values: np.ndarray, bits: int) -> bytes:
    colour = values.ndim == 3
    return get_encoder(UID(RLE)).encode(
        values.tobytes(),
        encoding_plugin="pydicom",
        rows=values.shape[0],
        columns=values.shape[1],
        samples_per_pixel=3 if colour else 1,
        number_of_frames=1,
        bits_allocated=8 * values.itemsize,
        bits_stored=bits,
        pixel_representation=0,
        photometric_interpretation="RGB" if colour else "MONOCHROME2",
        planar_configuration=0,
    )


def _jpeg_ls(values: np.ndarray, bits: int, lossy_error: int = 0) -> bytes:
    colour = {"interleave_mode": 2} if values.ndim == 3 else {}
    rows, columns = values.shape[:2]
    return bytes(
        jpeg_ls.encode_buffer(
            values.tobytes(), rows, columns, 3 if colour else 1, bits, lossy_error=lossy_error, **colour
        )
    )


def _jpeg2000(values: np.ndarray, bits: int, level: int = 0) -> bytes:
    return imagecodecs.jpeg2k_encode(
        values, codecformat="j2k", level=level, reversible=not level, bitspersample=bits, numthreads=1
    )


def _jpeg_lossless(values: np.ndarray, bits: int, predictor: int) -> bytes:
    space = {"colorspace": "RGB", "outcolorspace": "RGB"} if values.ndim == 3 else {}
    return imagecodecs.jpeg_encode(values, lossless=True, predictor=predictor, bitspersample=bits, **space)


def _jpeg(values: np.ndarray, bits: int) -> bytes:
    return imagecodecs.jpeg_encode(values, level=100, bitspersample=bits)


ENCODERS: dict[str, Encoder] = {
    RLE: _rle,
    BASELINE: lambda values, bits: _jpeg(values, 8),
    EXTENDED: lambda values, bits: _jpeg(values, 12),
    LOSSLESS: lambda values, bits: _jpeg_lossless(values, bits, 4),
    LOSSLESS_SV1: lambda values, bits: _jpeg_lossless(values, bits, 1),
    JLS: _jpeg_ls,
    JLS_NEAR: lambda values, bits: _jpeg_ls(values, bits, lossy_error=1),
    J2K: _jpeg2000,
    J2K_LOSSY: lambda values, bits: _jpeg2000(values, bits, level=60 if bits <= 8 else 90),
}


def frame_of(values: np.ndarray, syntax: str, bits: int) -> bytes:
    """One compressed frame. JPEG 2000 keeps the sign; the others hold the bits."""
    if syntax not in (J2K, J2K_LOSSY) and values.dtype.kind == "i":
        values = values.view(f"u{values.itemsize}") & np.array((1 << bits) - 1, f"u{values.itemsize}")
    return ENCODERS[syntax](np.ascontiguousarray(values), bits)


def lut(entries: np.ndarray, first: int, bits: int, *, packed: bool = False, big: bool = False, signed: bool = False, count: int | None = None) -> Dataset:  # fmt: skip
    """An item of a LUT sequence. packed: two entries of 8 bits a word; count: instead of the true one."""
    item = Dataset()
    number = len(entries) if count is None else count
    item.add_new(0x00283002, "SS" if signed else "US", [number if number < 65536 else 0, first, bits])
    data = entries.astype("u1" if packed else ">u2" if big else "<u2").tobytes()
    data += b"\0" * (len(data) % 2)
    if packed and big:
        data = np.frombuffer(data, "<u2").astype(">u2").tobytes()
    item.add_new(0x00283006, "OW", data)
    return item


def dicom(
    values: np.ndarray,
    *,
    syntax: str = EXPLICIT,
    bits: int = 12,
    allocated: int | None = None,
    photometric: str = "MONOCHROME2",
    frame: bytes | None = None,
    fragments: int = 1,
    table: str = "basic",
    pixels: bytes | None = None,
    meta: bool = True,
    change: Callable[[Dataset], None] | None = None,
    **elements: Any,
) -> bytes:
    """A DICOM file of stored values (H, W) or (H, W, 3), signed by their dtype.

    bits: stored. frame: the compressed frame instead of one made here. fragments: how many a frame is cut into. table: basic,
    none or extended. pixels: the value of the element instead of all that. meta: with preamble and meta header.
    elements: more of the header, by keyword; None takes one out. change: a last word on the data set.
    """
    allocated = allocated or (8 if bits <= 8 else 16)
    colour = values.ndim == 3
    ds = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.SOPClassUID, ds.SOPInstanceUID = DX, ROOT + "3"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = ROOT + "1", ROOT + "2"
    ds.PatientID, ds.PatientName, ds.StudyDate, ds.PatientSex = "P17", "Doe^Jane", "20240229", "F"
    ds.PatientBirthDate, ds.Manufacturer, ds.ManufacturerModelName = "19600301", "ACME", "X 1"
    ds.ViewPosition, ds.Modality = "PA", "DX"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 3 if colour else 1, photometric
    ds.Rows, ds.Columns = values.shape[:2]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, bits, bits - 1
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    if colour:
        ds.PlanarConfiguration = 0
    compressed = syntax not in (IMPLICIT, EXPLICIT, BIG, DEFLATED)
    if pixels is not None:
        data = pixels
    elif compressed:
        one = frame_of(values, syntax, bits) if frame is None else frame
        if table == "extended":
            data, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended([one])
        else:
            data = encapsulate([one], fragments_per_frame=fragments, has_bot=table == "basic")
    else:
        kind = f"{values.dtype.kind}{allocated // 8}"
        data = values.astype((">" if syntax == BIG else "<") + kind).tobytes()
        data += b"\0" * (len(data) % 2)
        if syntax == BIG and allocated == 8:  # in words of 16 bits
            data = np.frombuffer(data, "<u2").astype(">u2").tobytes()
    ds.add_new(0x7FE00010, "OB" if compressed or (allocated == 8 and syntax == EXPLICIT) else "OW", data)
    ds["PixelData"].is_undefined_length = compressed
    for keyword, value in elements.items():
        if value is None:
            ds.pop(keyword, None)
        else:
            setattr(ds, keyword, value)
    if change:
        change(ds)
    buffer = io.BytesIO()
    if meta:
        ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", CR)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", ROOT + "3")
        pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    else:
        del ds.file_meta
        pydicom.dcmwrite(buffer, ds, implicit_vr=syntax == IMPLICIT, little_endian=syntax != BIG)
    return buffer.getvalue()
