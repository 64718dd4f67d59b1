"""What is refused, with which code, quickly and without quoting the file; what is read with a warning."""

import io
import os
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from hilum.errors import UnreadableImage
from hilum.pixels.codes import REFUSALS, WARNINGS
from hilum.pixels.dicom.picture import polarity_is_doubtful
from hilum.pixels.dicom.read import read_dicom, read_dicom_header
from hilum.pixels.read import read_image
from tests.pixels.dicom_files import (
    BASELINE,
    BIG,
    CT,
    DEFLATED,
    DX_PROCESSING,
    EXPLICIT,
    EXTENDED,
    HTJ2K,
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
from tests.pixels.encodings import curve

GREY = chest()
TWELVE = (GREY.astype(np.uint16) << 4) | 7
HEADER = {"WindowCenter": 2048, "WindowWidth": 4096}
RGB = np.dstack([GREY, GREY, 255 - GREY])
NIH = Path(os.environ.get("HILUM_NIH", Path(__file__).parents[3] / "shared" / "data" / "nih"))
CANARY = "CANARY^7731"


def noisy(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4096, (height, width)).astype(np.uint16)


def j2k_of_size(side: int) -> bytes:
    """A codestream of a few hundred bytes that says side x side pixels."""
    frame = bytearray(frame_of(TWELVE, J2K, 12))
    struct.pack_into(">2I", frame, 8, side, side)
    struct.pack_into(">2I", frame, 24, side, side)
    return bytes(frame)


def without(part: bytes, data: bytes) -> bytes:
    assert data.count(part) == 1
    return data.replace(part, b"")


def bomb_of_sequences(levels: int) -> bytes:
    """Sequences of unknown length inside each other, as explicit as they come: 20 bytes a level."""
    plain = dicom(TWELVE, **HEADER)
    place = plain.index(b"\x08\x00\x16\x00UI")
    level = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return plain[:place] + level * levels + plain[place:]


def many_elements(count: int) -> bytes:
    plain = dicom(TWELVE, **HEADER)
    place = plain.index(b"\x08\x00\x16\x00UI")
    return plain[:place] + b"\x08\x00\x08\x00CS\0\0" * count + plain[place:]


REFUSED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "nothing": ("no-meta-header", lambda: b""),
    "a text": ("no-meta-header", lambda: b"hello " * 100),
    "no preamble": ("no-meta-header", lambda: dicom(TWELVE, meta=False)),
    "no transfer syntax": ("no-meta-header", lambda: without(b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0", dicom(TWELVE))),
    "deflated": ("unsupported-transfer-syntax", lambda: dicom(TWELVE, syntax=DEFLATED)),
    "HTJ2K": ("unsupported-transfer-syntax", lambda: dicom(TWELVE, syntax=HTJ2K, frame=b"\xff\x4f\xff\x51")),
    "a syntax of its own": ("unsupported-transfer-syntax", lambda: dicom(TWELVE).replace(b"1.2.840.10008.1.2.1\0", b"1.2.3.44444444444.6\0")),
    "CT": ("unsupported-sop-class", lambda: dicom(TWELVE, SOPClassUID=CT)),
    "no SOP class": ("unsupported-sop-class", lambda: dicom(TWELVE, SOPClassUID=None)),
    "for processing by class": ("for-processing-image", lambda: dicom(TWELVE, SOPClassUID=DX_PROCESSING)),
    "for processing by tag": ("for-processing-image", lambda: dicom(TWELVE, PresentationIntentType="FOR PROCESSING")),
    "two frames": ("multi-frame", lambda: dicom(TWELVE, NumberOfFrames=2, pixels=TWELVE.tobytes() * 2)),
    "a false number of frames": ("multi-frame", lambda: dicom(TWELVE, NumberOfFrames=30_000)),
    "two frames unsaid": ("undecodable", lambda: dicom(TWELVE, pixels=TWELVE.tobytes() * 2)),
    "colour": ("colour-image", lambda: dicom(RGB, bits=8, photometric="RGB", SOPClassUID=SECONDARY)),
    "colour, YBR": ("colour-image", lambda: dicom(RGB, bits=8, photometric="YBR_FULL", SOPClassUID=SECONDARY)),
    "three levels of blue": ("colour-image", lambda: dicom(np.dstack([GREY, GREY, GREY // 2 + 60]), bits=8, photometric="RGB")),
    "palette": ("colour-image", lambda: dicom(GREY, bits=8, photometric="PALETTE COLOR")),
    "samples and photometric": ("broken-header", lambda: dicom(TWELVE, SamplesPerPixel=3)),
    "CMYK": ("broken-header", lambda: dicom(TWELVE, photometric="CMYK")),
    "a thumbnail": ("too-small", lambda: dicom(TWELVE[:63])),
    "a strip": ("too-many-pixels", lambda: dicom(TWELVE, Rows=64, Columns=8193)),
    "41 million pixels": ("too-many-pixels", lambda: dicom(TWELVE, Rows=8000, Columns=5125)),
    "no rows": ("broken-header", lambda: dicom(TWELVE, Rows=None)),
    "zero rows": ("too-small", lambda: dicom(TWELVE, Rows=0)),
    "65 MB": ("file-too-large", lambda: dicom(TWELVE) + b"\0" * 65_000_000),
    "no pixels": ("no-pixels", lambda: dicom(TWELVE, PixelData=None)),
    "32 bits": ("undecodable", lambda: dicom(TWELVE, BitsAllocated=32)),
    "more stored than allocated": ("undecodable", lambda: dicom(TWELVE, BitsStored=17, HighBit=16)),
    "no bits": ("undecodable", lambda: dicom(TWELVE, BitsStored=0, HighBit=None)),
    "high bit elsewhere": ("undecodable", lambda: dicom(TWELVE, HighBit=15)),
    "cut in the pixels": ("undecodable", lambda: dicom(TWELVE)[:-100]),
    "cut in the header": ("broken-header", lambda: dicom(TWELVE)[:600]),
    "fewer pixels than it says": ("undecodable", lambda: dicom(TWELVE, pixels=TWELVE.tobytes()[:-2])),
    "more pixels than it says": ("undecodable", lambda: dicom(TWELVE, pixels=TWELVE.tobytes() + b"\0\0")),
    "native pixels called compressed": ("undecodable", lambda: dicom(TWELVE).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")),
    "compressed pixels of another size": ("undecodable", lambda: dicom(TWELVE, syntax=JLS, frame=frame_of(TWELVE[:-1], JLS, 12))),
    "JPEG of another size": ("undecodable", lambda: dicom(GREY, syntax=BASELINE, bits=8, frame=frame_of(GREY[1:], BASELINE, 8))),
    "JPEG 2000 bomb": ("undecodable", lambda: dicom(TWELVE, syntax=J2K, frame=j2k_of_size(60_000))),
    "JPEG 2000 tiles": ("undecodable", lambda: dicom(TWELVE, syntax=J2K, frame=tiny_tiles())),
    "RLE bomb by size": ("too-many-pixels", lambda: dicom(TWELVE, syntax=RLE, Rows=60_000, Columns=60_000)),
    "RLE bomb by runs": ("undecodable", lambda: dicom(TWELVE, syntax=RLE, frame=struct.pack("<16I", 2, 64, 66, *[0] * 13) + b"\x81\0" * 2_000_000)),
    "RLE of 15 segments": ("undecodable", lambda: dicom(TWELVE, syntax=RLE, frame=struct.pack("<16I", 15, *range(64, 79)) + b"\0" * 100)),
    "RLE that is cut": ("undecodable", lambda: dicom(TWELVE, syntax=RLE, frame=frame_of(TWELVE, RLE, 12)[:-500])),
    "lossless called baseline": ("undecodable", lambda: dicom(GREY, syntax=BASELINE, bits=8, frame=frame_of(GREY, LOSSLESS_SV1, 8))),
    "no frame": ("undecodable", lambda: dicom(TWELVE, syntax=J2K, frame=b"\xff\xd9")),
    "a frame of zeros": ("undecodable", lambda: dicom(TWELVE, syntax=JLS, frame=b"\0" * 5000)),
    "JPEG without its scan": ("undecodable", lambda: dicom(GREY, syntax=BASELINE, bits=8, frame=frame_of(GREY, BASELINE, 8)[:300])),
    "sequences nested 5,000 deep": ("header-too-complex", lambda: bomb_of_sequences(5_000)),
    "a million elements": ("header-too-complex", lambda: many_elements(1_000_000)),
    "an unknown type": ("broken-header", lambda: dicom(TWELVE).replace(b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00zz")),
    "a length beyond the file": ("broken-header", lambda: dicom(TWELVE).replace(b"\x08\x00\x16\x00UI\x1c\x00", b"\x08\x00\x16\x00UI\xff\xff")),
}  # fmt: skip


def tiny_tiles() -> bytes:
    frame = bytearray(frame_of(TWELVE, J2K, 12))
    struct.pack_into(">2I", frame, 24, 0, 1)
    return bytes(frame)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    code, make = REFUSED[name]
    data = make()
    before = time.process_time()
    with pytest.raises(UnreadableImage) as caught:
        read_dicom(data)
    assert caught.value.code == code
    assert str(caught.value).startswith(REFUSALS[code][0])
    assert time.process_time() - before < 1


def test_every_code_of_a_refusal_occurs() -> None:
    assert {code for code, _ in REFUSED.values()} == set(REFUSALS)


@pytest.mark.parametrize("name", [name for name, (code, _) in REFUSED.items() if code in (
    "unsupported-sop-class", "for-processing-image", "multi-frame", "too-small", "too-many-pixels", "no-pixels")])  # fmt: skip
def test_the_header_alone_shows_the_problem(name: str) -> None:
    code, make = REFUSED[name]
    assert read_dicom_header(make()).problem == code


def test_a_lower_limit_of_pixels_holds() -> None:
    data = dicom(TWELVE, **HEADER)
    assert read_dicom(data, pixel_limit=GREY.size).image.shape == GREY.shape
    with pytest.raises(UnreadableImage) as caught:
        read_dicom(data, pixel_limit=GREY.size - 1)
    assert caught.value.code == "too-many-pixels"


def nearly_all(value: int) -> np.ndarray:
    return np.where(np.arange(TWELVE.size).reshape(TWELVE.shape) % 50, value, TWELVE).astype(np.uint16)


WARNED: dict[str, Callable[[], bytes]] = {
    "secondary-capture": lambda: dicom(TWELVE, SOPClassUID=SECONDARY, **HEADER),
    "burned-in": lambda: dicom(TWELVE, BurnedInAnnotation="YES", **HEADER),
    "derived": lambda: dicom(TWELVE, ImageType=["DERIVED", "SECONDARY"], **HEADER),
    "lossy": lambda: dicom(TWELVE, LossyImageCompression="01", **HEADER),
    "possibly-truncated": lambda: dicom(
        TWELVE, syntax=LOSSLESS_SV1, frame=frame_of(TWELVE, LOSSLESS_SV1, 12)[:-2000], **HEADER
    ),
    "codestream-differs": lambda: dicom(TWELVE, syntax=J2K, frame=frame_of(TWELVE, J2K, 16), **HEADER),
    "lut-shape-conflict": lambda: dicom(TWELVE, PresentationLUTShape="INVERSE", **HEADER),
    "polarity-doubtful": lambda: dicom(4095 - TWELVE, **HEADER),
    "rescale-invalid": lambda: dicom(TWELVE, RescaleSlope=0, RescaleIntercept=0, **HEADER),
    "voi-lut-invalid": lambda: dicom(TWELVE, VOILUTSequence=[lut(curve(10, 8), 0, 8, count=4096)], **HEADER),
    "voi-lut-saturates": lambda: dicom(TWELVE, VOILUTSequence=[lut(np.zeros(4096), 0, 8)], **HEADER),
    "window-invalid": lambda: dicom(TWELVE, WindowCenter=5, WindowWidth=0),
    "window-saturates": lambda: dicom(nearly_all(50), **HEADER | {"WindowCenter": 3000, "WindowWidth": 100}),
    "voi-function-unknown": lambda: dicom(TWELVE, VOILUTFunction="SPLINE", **HEADER),
    "no-voi": lambda: dicom(TWELVE),
    "padding-ignored": lambda: dicom(TWELVE, PixelPaddingValue=4087, **HEADER),
    "aspect-invalid": lambda: dicom(TWELVE, PixelSpacing=[0.1, 100], **HEADER),
    "orientation-unusual": lambda: dicom(TWELVE, PatientOrientation=["L", "H"], **HEADER),
}


@pytest.mark.parametrize("code", WARNINGS)
def test_warned(code: str) -> None:
    assert code in read_dicom(WARNED[code]()).provenance.warnings


def test_an_ordinary_file_has_no_warning() -> None:
    assert read_dicom(dicom(TWELVE, PatientOrientation=["L", "F"], **HEADER)).provenance.warnings == ()


def with_canaries(ds: Dataset) -> None:
    """The patient's name wherever text may stand, and where numbers should."""
    for tag, vr in (
        (0x00100010, "PN"), (0x00100020, "LO"), (0x00080050, "SH"), (0x00081030, "LO"), (0x0008103E, "LO"), (0x00204000, "LT"),
        (0x00081010, "SH"), (0x00080080, "LO"), (0x00281055, "LO"), (0x00080070, "LO"), (0x00081090, "LO"), (0x00185101, "CS"),
        (0x00281056, "CS"), (0x20500020, "CS"), (0x00080008, "CS"), (0x00280301, "CS"), (0x00101010, "AS"), (0x00100040, "CS"),
        (0x00200020, "CS"), (0x00281053, "DS"), (0x00080020, "DA"), (0x00282110, "CS"), (0x00280030, "DS"),
    ):  # fmt: skip
        ds.add(pydicom.dataelem.RawDataElement(pydicom.tag.Tag(tag), vr, 12, f"{CANARY} ".encode(), 0, False, True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, J2K])
def test_nothing_of_the_patient_is_repeated(syntax: str, caplog: Any, capfd: Any) -> None:
    elements = HEADER if syntax != BIG else {}
    data = dicom(TWELVE, syntax=syntax, change=with_canaries, **elements)
    assert data.count(CANARY.encode()) >= 20
    rendered = read_dicom(data)
    said = [repr(rendered.provenance.as_dict())]
    for name, kind in (
        (b"1.2.840.10008.5.1.4.1.1.1.1\0", b"CANARY^7731.1.4.1.1.1.1.1.1\0"),
        (b"MONOCHROME2 ", b"CANARY^7731 "),
    ):
        assert name in data
        with pytest.raises(UnreadableImage) as caught:
            read_dicom(data.replace(name, kind))
        said.append(str(caught.value))
    for cut in (500, 800, len(data) - 50):
        try:
            read_dicom(data[:cut])
        except UnreadableImage as error:
            said.append(str(error))
    assert "CANARY" not in " ".join(said) + caplog.text + "".join(capfd.readouterr())


def test_mutations_are_read_or_refused() -> None:
    """Never another exception. JPEG-LS and JPEG lossless codecs may crash on such files: they belong in a process of their own."""
    rng = np.random.default_rng(4)
    whole = [dicom(TWELVE, syntax=syntax, VOILUTSequence=[lut(curve(4096, 12), 0, 12)]) for syntax in (EXPLICIT, IMPLICIT, RLE, J2K)]  # fmt: skip
    outcomes = set()
    for _ in range(300):
        data = bytearray(whole[rng.integers(len(whole))])
        for _ in range(rng.integers(1, 6)):
            place = int(rng.integers(132, 1800 if rng.random() < 0.8 else len(data)))
            data[place] = int(rng.integers(256))
        cut = int(rng.integers(200, len(data))) if rng.random() < 0.2 else len(data)
        for reader in (read_dicom, read_dicom_header):
            try:
                reader(bytes(data[:cut]))
                outcomes.add("read")
            except UnreadableImage as error:
                outcomes.add(error.code)
    assert {"read", "undecodable", "broken-header"} <= outcomes


def outcome_of(data: bytes) -> set[str]:
    """The codes of warnings of a file that is read, or that of the refusal."""
    try:
        return set(read_dicom(data).provenance.warnings)
    except UnreadableImage as error:
        return {error.code}


@pytest.mark.parametrize("syntax", [BASELINE, EXTENDED, LOSSLESS, LOSSLESS_SV1, JLS, JLS_NEAR, J2K, J2K_LOSSY, RLE])
def test_compressed_pixels_that_are_cut_are_refused_or_said_to_be(syntax: str) -> None:
    values, bits = (GREY, 8) if syntax == BASELINE else (TWELVE, 12)
    frame = frame_of(values, syntax, bits)
    for left in (len(frame) // 3, len(frame) - 200):
        assert outcome_of(dicom(values, syntax=syntax, bits=bits, frame=frame[:left])) & {
            "undecodable",
            "possibly-truncated",
        }


def test_a_picture_in_a_jpeg_that_pillow_reads_whole_is_not_taken_from_another_marker() -> None:
    """The first frame header counts: it is the one that decoders believe."""
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "JPEG", quality=95, comment=b"\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\0\0\0")
    data = dicom(GREY, syntax=BASELINE, bits=8, frame=buffer.getvalue())
    assert read_dicom(data).image.shape == GREY.shape


@pytest.mark.skipif(not NIH.is_dir(), reason="ChestX-ray14 is not here (set HILUM_NIH to its folder)")
def test_polarity_of_real_films_is_seldom_mistaken() -> None:
    """A few of them are stored inverted, so not every alarm is a false one."""
    films = [read_image(path) for path in sorted((NIH / "images_256").glob("*.png"))[:300]]
    eight = [film for film in films if film.dtype == np.uint8]
    assert sum(map(polarity_is_doubtful, eight)) < 0.05 * len(eight)
    assert sum(polarity_is_doubtful(255 - film) for film in eight) > 0.95 * len(eight)


def test_codes_are_words_of_one_form() -> None:
    for code in (*REFUSALS, *WARNINGS):
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)
    assert UnreadableImage("x").code == "undecodable"


def test_the_page_names_every_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "dicom.md").read_text()
    for code in (*REFUSALS, *WARNINGS):
        assert f"`{code}`" in page, code
