"""One picture in many DICOM encodings: what scanners, archives and the standard do to the same greys.

Each encoding is worked out backwards, from the grey that must be seen to the value that is stored, so a reader that follows the
standard gives the picture back within a grey level.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset

from tests.pixels.dicom_files import (
    BASELINE,
    BIG,
    CR,
    DX,
    ENCODERS,
    EXPLICIT,
    EXTENDED,
    IMPLICIT,
    J2K,
    J2K_LOSSY,
    JLS,
    JLS_NEAR,
    LOSSLESS,
    LOSSLESS_SV1,
    RLE,
    SECONDARY,
    chest,
    dicom,
    frame_of,
    lut,
)

Inverse = Callable[[np.ndarray], np.ndarray]  # grey in [0, 1] -> value after the modality step
BITS_OF = {BASELINE: 8, EXTENDED: 12}  # where the syntax decides
LOSSY = {BASELINE: 2, EXTENDED: 1, JLS_NEAR: 1, J2K_LOSSY: 3}  # grey levels that are lost at most


@dataclass(frozen=True)
class Encoding:
    """One file. levels: the largest difference that the encoding itself makes, in levels of 255."""

    group: str
    name: str
    data: bytes
    levels: int = 1


def stored_of(
    grey: np.ndarray, inverse: Inverse, *, bits: int, signed: bool = False, inverted: bool = False,
    slope: float = 1.0, intercept: float = 0.0,
) -> np.ndarray:  # fmt: skip
    """The values to store so that rescale, VOI and inversion give `grey`, levels of 255."""
    y = grey / 255.0
    values = np.rint((inverse(1 - y if inverted else y) - intercept) / slope)
    lowest = -(1 << (bits - 1)) if signed else 0
    assert values.min() >= lowest, values.min()
    assert values.max() < lowest + (1 << bits), values.max()
    return values.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")


def linear(center: float, width: float) -> Inverse:
    return lambda y: center - 0.5 + (y - 0.5) * (width - 1)


def linear_exact(center: float, width: float) -> Inverse:
    return lambda y: center + (y - 0.5) * width


def sigmoid(center: float, width: float) -> Inverse:
    def inverse(y: np.ndarray) -> np.ndarray:
        inside = y.clip(0.25 / 255, 1 - 0.25 / 255)
        return center + width / 4 * np.log(inside / (1 - inside))

    return inverse


def by_lut(entries: np.ndarray, first: int, bits: int) -> Inverse:
    """The value whose entry is nearest; entries rise."""
    greys = entries / ((1 << bits) - 1)
    return lambda y: first + np.abs(greys[None] - np.unique(y)[:, None]).argmin(1)[np.unique(y, return_inverse=True)[1]].reshape(y.shape)  # fmt: skip


def curve(count: int, bits: int) -> np.ndarray:
    """Entries of a LUT that bends as film does, black to white."""
    x = np.linspace(0, 1, count)
    bent = 1 / (1 + np.exp(-7 * (x - 0.5)))
    return np.rint((bent - bent[0]) / (bent[-1] - bent[0]) * ((1 << bits) - 1)).astype(np.int64)


def window(center: Any, width: Any, function: str | None = None) -> dict[str, Any]:
    named = {"VOILUTFunction": function} if function else {}
    return {"WindowCenter": center, "WindowWidth": width, **named}


def rescale(slope: float, intercept: float) -> dict[str, Any]:
    return {"RescaleSlope": slope, "RescaleIntercept": intercept, "RescaleType": "US"}


def full(bits: int, *, signed: bool = False) -> Inverse:
    """What no VOI at all means for a picture with black and white in it."""
    lowest = -(1 << (bits - 1)) if signed else 0
    return lambda y: lowest + y * ((1 << bits) - 1)


def encodings(grey: np.ndarray | None = None) -> Iterator[Encoding]:
    """All encodings of `chest()`."""
    grey = chest() if grey is None else grey
    yield from _syntaxes(grey)
    yield from _depths(grey)
    yield from _rescaled(grey)
    yield from _windows(grey)
    yield from _luts(grey)
    yield from _padded(grey)
    yield from _layouts(grey)
    yield from _colours(grey)
    yield from _contradictions(grey)


def _syntaxes(grey: np.ndarray) -> Iterator[Encoding]:
    """Each transfer syntax, with the depth that a CR or DX has."""
    for syntax in (IMPLICIT, EXPLICIT, BIG, *ENCODERS):
        bits = BITS_OF.get(syntax, 12)
        half = 1 << (bits - 1)
        for inverted in (False, True):
            way = linear(half, 1.9 * half)
            stored = stored_of(grey, way, bits=bits, inverted=inverted)
            photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
            data = dicom(stored, syntax=syntax, bits=bits, photometric=photometric, **window(half, 1.9 * half))
            yield Encoding("transfer syntax", f"{syntax} {photometric}", data, LOSSY.get(syntax, 1))


def _depths(grey: np.ndarray) -> Iterator[Encoding]:
    """Bits, signs and photometric interpretation, with a window; lossless syntaxes in turn."""
    syntaxes = (EXPLICIT, RLE, LOSSLESS_SV1, JLS, J2K, LOSSLESS)
    for k, bits in enumerate((8, 9, 10, 12, 14, 15, 16)):
        for signed in (False, True):
            middle, width = (0 if signed else 1 << (bits - 1)), 0.9 * (1 << bits)
            stored = stored_of(grey, linear(middle, width), bits=bits, signed=signed, inverted=signed)
            photometric = "MONOCHROME1" if signed else "MONOCHROME2"
            syntax = syntaxes[k % len(syntaxes)]
            data = dicom(stored, syntax=syntax, bits=bits, photometric=photometric, **window(middle, width))
            yield Encoding("depth", f"{bits} bits {'signed' if signed else 'unsigned'} {photometric}", data)
    for bits, signed in ((8, False), (12, False), (12, True), (16, False)):
        stored = stored_of(grey, full(bits, signed=signed), bits=bits, signed=signed)
        yield Encoding("no VOI", f"{bits} bits {'signed' if signed else 'unsigned'}", dicom(stored, bits=bits))
    stored = stored_of(grey, lambda y: 200 + y * 3000, bits=16)
    yield Encoding("no VOI", "12 bits used of 16 stored", dicom(stored, bits=16))
    stored = stored_of(grey, full(10), bits=10, inverted=True)
    yield Encoding("no VOI", "10 bits MONOCHROME1", dicom(stored, bits=10, photometric="MONOCHROME1"))


def _rescaled(grey: np.ndarray) -> Iterator[Encoding]:
    for slope, intercept, bits, signed, inverted in (
        (1, -1024, 12, False, False),
        (-1, 4095, 12, False, False),
        (-10, 3000, 12, False, True),
        (-1, 0, 14, True, False),
        (0.2442, -7.5, 12, False, False),
        (1, -31743.5, 16, False, True),
        (2.5, 17.25, 10, True, True),
    ):
        lowest = -(1 << (bits - 1)) if signed else 0
        ends = sorted((slope * lowest + intercept, slope * (lowest + (1 << bits) - 1) + intercept))
        center, width = round((ends[0] + ends[1]) / 2, 3), round(0.9 * (ends[1] - ends[0]), 3)
        stored = stored_of(
            grey, linear(center, width), bits=bits, signed=signed, inverted=inverted, slope=slope, intercept=intercept
        )
        photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
        data = dicom(stored, bits=bits, photometric=photometric, **rescale(slope, intercept), **window(center, width))
        sign = "signed" if signed else "unsigned"
        yield Encoding("rescale", f"{slope} x + {intercept}, {bits} bits {sign} {photometric}", data)
    stored = stored_of(grey, lambda y: y * 4095, bits=12, slope=-1, intercept=4095)
    yield Encoding("rescale", "-1 x + 4095 without VOI", dicom(stored, bits=12, **rescale(-1, 4095)))
    falling = np.arange(4095, -1, -1) * 16  # the modality LUT is a film's: much light, little density
    stored = stored_of(grey, lambda y: 4095 - linear(32_768, 50_000)(y) / 16, bits=12)
    data = dicom(stored, ModalityLUTSequence=[lut(falling, 0, 16)], **window(32_768, 50_000))
    yield Encoding("rescale", "modality LUT, falling, 16 bits", data)


def _windows(grey: np.ndarray) -> Iterator[Encoding]:
    cases: tuple[tuple[str, Inverse, dict[str, Any], int], ...] = (
        ("LINEAR", linear(2047.5, 3000), window(2047.5, 3000, "LINEAR"), 12),
        ("LINEAR_EXACT", linear_exact(2047.5, 3000), window(2047.5, 3000, "LINEAR_EXACT"), 12),
        ("SIGMOID", sigmoid(2048, 1000), window(2048, 1000, "SIGMOID"), 12),
        ("SIGMOID of 16 bits", sigmoid(30_000, 15_000), window(30_000, 15_000, "SIGMOID"), 16),
        ("narrow window of 16 bits", linear(9000, 2000), window(9000, 2000), 16),
        ("several windows", linear(1800, 3000), window([1800, 500], [3000, 100]), 12),
        ("first window without width", linear(1800, 3000), window([1, 1800], [0, 3000]), 12),
        ("only window without width", full(12), window(7, 0), 12),
        ("unknown function", linear(2047.5, 3000), window(2047.5, 3000, "SPLINE"), 12),
    )
    for name, inverse, header, bits in cases:
        for inverted in (False, True):
            photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
            stored = stored_of(grey, inverse, bits=bits, inverted=inverted)
            yield Encoding(
                "window", f"{name} {photometric}", dicom(stored, bits=bits, photometric=photometric, **header)
            )


def _luts(grey: np.ndarray) -> Iterator[Encoding]:
    for count, first, bits, how, syntax, inverted in (
        (4096, 0, 8, {}, EXPLICIT, False),
        (4096, 0, 8, {"packed": True}, EXPLICIT, False),
        (4096, 0, 8, {"packed": True}, BIG, True),
        (4096, 0, 8, {}, BIG, False),
        (4096, 0, 10, {}, IMPLICIT, False),
        (4096, 0, 12, {}, EXPLICIT, True),
        (4096, 0, 14, {}, JLS, False),
        (4096, 0, 16, {}, RLE, True),
        (2000, 1000, 12, {}, EXPLICIT, False),
        (2001, 1000, 8, {"packed": True}, EXPLICIT, False),
    ):
        entries = curve(count, bits)
        stored = stored_of(grey, by_lut(entries, first, bits), bits=12, inverted=inverted)
        photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
        item = lut(entries, first, bits, big=syntax == BIG, **how)
        data = dicom(stored, syntax=syntax, photometric=photometric, VOILUTSequence=[item], **window(2048, 700))
        told = f"{count:,} from {first} to {bits} bits{', packed' if how else ''} {syntax} {photometric}"
        yield Encoding("VOI LUT", told, data)

    entries = curve(65_536, 16)
    stored = stored_of(grey, by_lut(entries, 0, 16), bits=16)
    data = dicom(stored, bits=16, VOILUTSequence=[lut(entries, 0, 16)])
    yield Encoding("VOI LUT", "65,536 entries, written as 0", data)
    entries = curve(4096, 12)
    stored = stored_of(grey, by_lut(entries, -2048, 12), bits=12, signed=True)
    for syntax in (EXPLICIT, IMPLICIT):
        data = dicom(stored, syntax=syntax, VOILUTSequence=[lut(entries, -2048, 12, signed=True)])
        yield Encoding("VOI LUT", f"first value -2048, signed {syntax}", data)
    stored = stored_of(grey, by_lut(entries, -1024, 12), bits=12, intercept=-1024)
    item = lut(entries, 65_536 - 1024, 12)
    yield Encoding("VOI LUT", "first value -1024 as US", dicom(stored, VOILUTSequence=[item], **rescale(1, -1024)))
    stored = stored_of(grey, by_lut(entries, 0, 12), bits=12)
    junk = [lut(entries, 0, 12), lut(entries[::-1], 0, 12)]
    yield Encoding("VOI LUT", "two items, the second falling", dicom(stored, VOILUTSequence=junk))

    stored = stored_of(grey, linear(2048, 3500), bits=12)
    broken = {
        "all entries white": lut(np.full(4096, 4095), 0, 12),
        "fewer entries than it says": lut(entries[:100], 0, 12, count=4096),
        "0 bits": lut(entries, 0, 0),
    }
    for name, item in broken.items():
        yield Encoding("VOI LUT", f"{name}, so the window", dicom(stored, VOILUTSequence=[item], **window(2048, 3500)))


def _padded(grey: np.ndarray) -> Iterator[Encoding]:
    """The black frame of the picture holds the padding value."""
    frame = np.ones(grey.shape, dtype=bool)
    frame[6:-6, 6:-6] = False
    for name, bits, signed, inverted, value, header in (
        ("0, MONOCHROME1", 12, False, True, 0, {"PixelPaddingValue": 0}),
        ("4095, MONOCHROME2", 12, False, False, 4095, {"PixelPaddingValue": 4095}),
        ("-2048, signed", 12, True, True, -2048, {"PixelPaddingValue": -2048}),
        ("65535 beyond 12 bits", 12, False, False, 65_535, {"PixelPaddingValue": 65_535}),
        ("a range", 12, False, True, 3, {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 5}),
        ("a range from above", 16, False, False, 65_530, {"PixelPaddingValue": 65_535, "PixelPaddingRangeLimit": 65_520}),
    ):  # fmt: skip
        middle, width = (0 if signed else 1 << (bits - 1)), 0.8 * (1 << bits)
        stored = stored_of(grey, linear(middle, width), bits=bits, signed=signed, inverted=inverted)
        stored[frame] = value

        def with_sign(ds: Dataset, header: dict[str, int] = header, signed: bool = signed) -> None:
            for tag, keyword in ((0x00280120, "PixelPaddingValue"), (0x00280121, "PixelPaddingRangeLimit")):
                if keyword in header:
                    ds.add_new(tag, "SS" if signed else "US", header[keyword])

        photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
        data = dicom(stored, bits=bits, photometric=photometric, change=with_sign, **window(middle, width))
        yield Encoding("padding", name, data)
    # without VOI, padding has no part in the percentiles
    stored = stored_of(grey, lambda y: 100 + y * 1000, bits=16)
    stored[frame] = 65_535
    yield Encoding("padding", "65535 of 16 bits without VOI", dicom(stored, bits=16, PixelPaddingValue=65_535))
    # a legal grey inside the picture: the white marker
    stored = stored_of(grey, full(12), bits=12)
    data = dicom(stored, PixelPaddingValue=4095, **window(2048, 4096))
    yield Encoding("padding", "the value of a marker that touches no border", data)


def _layouts(grey: np.ndarray) -> Iterator[Encoding]:
    """How the same stored values may lie in the file."""
    stored = stored_of(grey, linear(2048, 3500), bits=12)
    header = window(2048, 3500)
    overlay = stored | ((grey > 100).astype(np.uint16) << 12) | ((grey % 7 == 0).astype(np.uint16) << 15)
    for syntax in (EXPLICIT, BIG, RLE):
        yield Encoding("layout", f"overlays in the spare bits {syntax}", dicom(overlay, syntax=syntax, **header))
    signed = stored_of(grey, linear(0, 3500), bits=12, signed=True)
    flagged = (signed & 0x0FFF) | np.int16(0x5000)
    yield Encoding("layout", "overlays in the spare bits, signed", dicom(flagged, **window(0, 3500)))
    yield Encoding(
        "layout", "8 bits in 16", dicom(stored_of(grey, full(8), bits=8).astype(np.uint16), bits=8, allocated=16)
    )
    for syntax, fragments in ((JLS, 3), (J2K, 5), (LOSSLESS_SV1, 2)):
        yield Encoding(
            "layout", f"{fragments} fragments {syntax}", dicom(stored, syntax=syntax, fragments=fragments, **header)
        )
    yield Encoding("layout", "no offset table", dicom(stored, syntax=RLE, table="none", **header))
    yield Encoding("layout", "extended offset table", dicom(stored, syntax=J2K, table="extended", **header))
    yield Encoding("layout", "NumberOfFrames 1", dicom(stored, NumberOfFrames=1, **header))
    jp2 = imagecodecs.jpeg2k_encode(stored, codecformat="jp2", level=0, reversible=True, bitspersample=12, numthreads=1)
    yield Encoding("layout", "JPEG 2000 inside a JP2 file", dicom(stored, syntax=J2K, frame=jp2, **header))

    def undefined(ds: Dataset) -> None:
        ds["VOILUTSequence"].is_undefined_length = True
        ds.VOILUTSequence[0].is_undefined_length_sequence_item = True

    entries = curve(4096, 12)
    bent = stored_of(grey, by_lut(entries, 0, 12), bits=12)
    for syntax in (EXPLICIT, IMPLICIT, BIG):
        item = lut(entries, 0, 12, big=syntax == BIG)
        data = dicom(bent, syntax=syntax, VOILUTSequence=[item], change=undefined)
        yield Encoding("layout", f"sequences without lengths {syntax}", data)

    twice, wide = np.repeat(stored, 2, axis=0), np.repeat(stored, 3, axis=1)
    yield Encoding("pixels not square", "PixelSpacing 0.1, 0.2", dicom(twice, PixelSpacing=[0.1, 0.2], **header))
    data = dicom(wide, ImagerPixelSpacing=[0.3, 0.1], syntax=JLS, **header)
    yield Encoding("pixels not square", "ImagerPixelSpacing 0.3, 0.1", data)
    yield Encoding("pixels not square", "PixelAspectRatio 1, 2", dicom(twice, PixelAspectRatio=[1, 2], **header))
    mirrored = np.ascontiguousarray(stored[:, ::-1])
    yield Encoding("orientation", "R\\F", dicom(mirrored, PatientOrientation=["R", "F"], **header))
    yield Encoding("orientation", "L\\F", dicom(stored, PatientOrientation=["L", "F"], **header))


def _colours(grey: np.ndarray) -> Iterator[Encoding]:
    rgb = np.dstack([grey] * 3)
    neutral = np.dstack([grey, np.full_like(grey, 128), np.full_like(grey, 128)])
    secondary: dict[str, Any] = {"bits": 8, "SOPClassUID": SECONDARY}
    yield Encoding("colour", "RGB", dicom(rgb, photometric="RGB", **secondary))
    planes = np.moveaxis(rgb, -1, 0).tobytes()
    data = dicom(rgb, photometric="RGB", pixels=planes, PlanarConfiguration=1, **secondary)
    yield Encoding("colour", "RGB by plane", data)
    tinted = np.dstack([grey, grey, np.where(grey > 1, grey - 1, grey)]).astype(np.uint8)
    yield Encoding("colour", "RGB, blue a level less", dicom(tinted, photometric="RGB", **secondary))
    yield Encoding("colour", "YBR_FULL", dicom(neutral, photometric="YBR_FULL", **secondary))
    for syntax in (RLE, JLS, LOSSLESS_SV1, J2K):
        photometric = "YBR_RCT" if syntax == J2K else "RGB"
        yield Encoding(
            "colour", f"{photometric} {syntax}", dicom(rgb, syntax=syntax, photometric=photometric, **secondary)
        )
    for name, space in (("YBR_FULL_422", "YCBCR"), ("RGB", "RGB")):
        frame = imagecodecs.jpeg_encode(rgb, level=100, colorspace="RGB", outcolorspace=space)
        data = dicom(rgb, syntax=BASELINE, photometric=name, frame=frame, LossyImageCompression="01", **secondary)
        yield Encoding("colour", f"{name} {BASELINE}", data, 2)


def _contradictions(grey: np.ndarray) -> Iterator[Encoding]:
    """Headers that say two things; the rule for each is on the page."""
    stored = stored_of(grey, linear(2048, 3500), bits=12)
    header = window(2048, 3500)
    frame = frame_of(stored, J2K, 12)
    data = dicom(stored, syntax=J2K, bits=16, frame=frame, **header)
    yield Encoding("contradiction", "JPEG 2000 of 12 bits, header of 16", data)
    frame = frame_of(stored, J2K, 16)
    yield Encoding(
        "contradiction", "JPEG 2000 of 16 bits, header of 12", dicom(stored, syntax=J2K, frame=frame, **header)
    )
    signed = stored_of(grey, linear(0, 3500), bits=12, signed=True)
    frame = frame_of((signed & 0xFFF).astype(np.uint16), J2K, 12)
    data = dicom(signed, syntax=J2K, frame=frame, **window(0, 3500))
    yield Encoding("contradiction", "JPEG 2000 of unsigned bits, header signed", data)
    frame = frame_of((signed & 0xFFF).astype(np.uint16), J2K, 16)
    data = dicom(signed, syntax=J2K, frame=frame, **window(0, 3500))
    yield Encoding("contradiction", "JPEG 2000 of 16 unsigned bits, header of 12 signed", data)
    frame = frame_of((stored.astype(np.int16) ^ 0x800) - 0x800, J2K, 12)
    data = dicom(stored, syntax=J2K, frame=frame, **header)
    yield Encoding("contradiction", "JPEG 2000 of signed bits, header unsigned", data)
    inverted = stored_of(grey, linear(2048, 3500), bits=12, inverted=True)
    for shape in ("INVERSE", "IDENTITY"):
        data = dicom(inverted, photometric="MONOCHROME1", PresentationLUTShape=shape, **header)
        yield Encoding("contradiction", f"MONOCHROME1 and {shape}", data)
    data = dicom(stored, PresentationLUTShape="INVERSE", **header)
    yield Encoding("contradiction", "MONOCHROME2 and INVERSE", data)
    yield Encoding("contradiction", "CR without presentation intent", dicom(stored, SOPClassUID=CR, **header))
    data = dicom(stored, SOPClassUID=DX, RescaleSlope=0, RescaleIntercept=5, **header)
    yield Encoding("contradiction", "rescale slope 0", data)
    data = dicom(stored, syntax=LOSSLESS, frame=frame_of(stored, LOSSLESS, 16), **header)
    yield Encoding("contradiction", "JPEG lossless of 16 bits, header of 12", data)
