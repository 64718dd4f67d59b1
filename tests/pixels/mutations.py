"""Damaged files without end, each made from its number alone: whole files of every kind, then changed by chance and by design.

What is changed by design passes the first checks and reaches the decoders: header values that lie, PNG chunks with a right checksum,
codestreams damaged inside. A number makes the same file again, so that a crasher is kept as its number.
"""

import functools
import struct
import zlib
from collections.abc import Callable

import cv2
import imagecodecs
import numpy as np

from tests.pixels import dicom_files as d
from tests.pixels.files import chunk, png

Random = np.random.Generator
Change = Callable[[bytearray, Random], None]

SYNTAXES = (d.IMPLICIT, d.EXPLICIT, d.BIG, d.DEFLATED, *d.ENCODERS)
# Elements whose values decide how pixels are read: group, element, values to try
NUMBERS: tuple[tuple[int, int], ...] = tuple(
    (0x0028, element) for element in (0x0002, 0x0006, 0x0008, 0x0010, 0x0011, 0x0100, 0x0101, 0x0102, 0x0103, 0x0120, 0x1050, 0x1051, 0x1053)
)  # fmt: skip
VALUES = (0, 1, 2, 3, 7, 8, 12, 16, 17, 32, 63, 65, 255, 4096, 8192, 32768, 65535)


@functools.cache
def seeds() -> dict[str, bytes]:
    """Whole files by name: DICOM in every transfer syntax that is read, PNG and JPEG of every kind."""
    small = np.ascontiguousarray(d.chest()[::2, ::2])
    twelve = np.rint(small * (4095 / 255)).astype(np.uint16)
    files: dict[str, bytes] = {}
    for syntax in SYNTAXES:
        if syntax != d.EXTENDED:
            files[f"DICOM {syntax}, 8 bits"] = d.dicom(small, syntax=syntax, bits=8)
        if syntax != d.BASELINE:
            files[f"DICOM {syntax}, 12 bits"] = d.dicom(twelve, syntax=syntax, bits=12)
    table = d.lut(np.arange(4096), 0, 12)
    files["DICOM with a LUT"] = d.dicom(
        twelve, VOILUTSequence=[table], PixelPaddingValue=0, PhotometricInterpretation="MONOCHROME1"
    )
    files["DICOM with a window"] = d.dicom(
        twelve, WindowCenter=2000, WindowWidth=3000, RescaleSlope=2, RescaleIntercept=-5
    )
    files["DICOM in colour"] = d.dicom(
        np.repeat(small[..., None], 3, axis=-1), syntax=d.BASELINE, bits=8, photometric="YBR_FULL_422"
    )
    for name, samples, options in (
        ("grey", small, {}), ("16 bits", twelve, {"depth": 16}), ("1 bit", small >> 7, {"depth": 1}),
        ("RGBA", np.repeat(small[..., None], 4, axis=-1), {"colour": 6}), ("interlaced", small, {"interlaced": True}),
    ):  # fmt: skip
        files[f"PNG, {name}"] = png(samples, **options)  # type: ignore[arg-type]
    colour = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR)
    files["JPEG"] = bytes(imagecodecs.jpeg_encode(small))
    for name, flags in (("colour", []), ("progressive", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]), ("restarts", [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])):  # fmt: skip
        files[f"JPEG, {name}"] = cv2.imencode(".jpg", colour, flags)[1].tobytes()
    return files


def damaged(number: int) -> tuple[str, bytes]:
    """The file of this number, and how it was made."""
    random = np.random.default_rng(number)
    name = str(random.choice(list(seeds())))
    kind = name.split()[0].strip(",")
    data = bytearray(seeds()[name])
    made = [name]
    for _ in range(random.integers(1, 5)):
        designed = random.random() < 0.6
        changes = DESIGNED[kind] if designed else BY_CHANCE
        change = str(random.choice(list(changes)))
        changes[change](data, random)
        made.append(change)
    return ": ".join((made[0], " + ".join(made[1:]))), bytes(data)


def _place(data: bytearray, random: Random, start: int = 0) -> int:
    return int(random.integers(min(start, max(len(data) - 1, 0)), max(len(data), 1)))


def _bits(data: bytearray, random: Random) -> None:
    for _ in range(random.integers(1, 9)):
        if data:
            data[_place(data, random)] ^= 1 << int(random.integers(8))


def _bytes(data: bytearray, random: Random) -> None:
    place = _place(data, random)
    size = int(random.integers(1, 17))
    data[place : place + size] = random.bytes(size)


def _cut(data: bytearray, random: Random) -> None:
    del data[_place(data, random, 140) :]


def _leave_out(data: bytearray, random: Random) -> None:
    place = _place(data, random)
    del data[place : place + int(random.integers(1, 64))]


def _repeat(data: bytearray, random: Random) -> None:
    place = _place(data, random)
    piece = data[place : place + int(random.integers(1, 512))]
    data[place:place] = piece * int(random.integers(1, 9))


def _extreme(data: bytearray, random: Random) -> None:
    """A number of 2 or 4 bytes becomes one that breaks arithmetic."""
    place = _place(data, random)
    value = int(random.choice([0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]))
    size = 4 if value > 0xFFFF or random.random() < 0.5 else 2
    data[place : place + size] = value.to_bytes(4, "big" if random.random() < 0.5 else "little")[-size:]


BY_CHANCE: dict[str, Change] = {
    "bits flipped": _bits, "bytes replaced": _bytes, "cut off": _cut, "bytes left out": _leave_out, "bytes repeated": _repeat,
    "an extreme number": _extreme,
}  # fmt: skip


def _element(data: bytearray, random: Random) -> None:
    """A value of the header that decides how pixels are read."""
    group, element = NUMBERS[int(random.integers(len(NUMBERS)))]
    order = ">" if bytes(data).find(b"\x00\x28\x00\x10") >= 0 else "<"
    place = bytes(data).find(struct.pack(order + "HH", group, element))
    if place >= 0 and place + 10 <= len(data):
        struct.pack_into(order + "H", data, place + 8, int(random.choice(VALUES)))


def _length(data: bytearray, random: Random) -> None:
    """The length of an element between the header's start and the pixels."""
    end = bytes(data).find(b"\xe0\x7f\x10\x00")
    place = int(random.integers(132, max(end, 133)))
    tag = bytes(data).find(bytes((data[place], 0)) if place < len(data) else b"\x28\x00", place)
    if 0 <= tag <= len(data) - 12:
        struct.pack_into("<H", data, tag + 6, int(random.choice(VALUES)))


def _syntax(data: bytearray, random: Random) -> None:
    """The transfer syntax of another file."""
    place = bytes(data).find(b"\x02\x00\x10\x00UI")
    if place >= 0 and place + 8 <= len(data):
        (length,) = struct.unpack_from("<H", data, place + 6)
        other = str(random.choice(SYNTAXES)).encode()
        data[place + 8 : place + 8 + length] = other.ljust(length, b"\0")[:length]


def _pixels(data: bytearray, random: Random) -> None:
    """Bytes of the pixel data."""
    start = bytes(data).rfind(b"\xe0\x7f\x10\x00")
    for _ in range(random.integers(1, 20)):
        data[_place(data, random, max(start, 0) + 12)] = int(random.integers(256))


def _codestream(data: bytearray, random: Random) -> None:
    """Bytes of the first 200 of the pixel data: item headers, markers, sizes, tables."""
    start = max(bytes(data).rfind(b"\xe0\x7f\x10\x00"), 0) + 12
    for _ in range(random.integers(1, 6)):
        place = start + int(random.integers(200))
        if place < len(data):
            data[place] = int(random.choice([0, 1, 0xFF, random.integers(256)]))


def _marker(data: bytearray, random: Random) -> None:
    """A marker of a codestream that is no longer the one it was."""
    places = [
        k
        for k in range(132 if len(data) > 400 else 2, min(len(data) - 4, 4000))
        if data[k] == 0xFF and data[k + 1] > 0x4E
    ]
    if places:
        place = int(random.choice(places))
        if random.random() < 0.5:
            data[place + 1] = int(random.integers(0x4F, 0xFF))
        else:
            struct.pack_into(">H", data, place + 2, int(random.choice(VALUES)))


def _chunk(data: bytearray, random: Random) -> None:
    """A byte in a PNG chunk, its checksum made right."""
    start, end = _some_chunk(data, random)
    if end > start:
        data[int(random.integers(start, end))] = int(random.integers(256))
        _signed(data, start, end)


def _size(data: bytearray, random: Random) -> None:
    """A field of the PNG header, its checksum made right."""
    if len(data) >= 33:
        field = int(random.integers(16, 29))
        data[field] = int(random.choice([0, 1, 2, 3, 4, 6, 8, 16, 200, 255]))
        _signed(data, 16, 29)


def _rows(data: bytearray, random: Random) -> None:
    """The unpacked rows of a PNG, damaged and packed again: filters that do not exist, too few or too many bytes."""
    start, end = _some_chunk(data, random, b"IDAT")
    try:
        rows = bytearray(zlib.decompressobj().decompress(bytes(data[start:end]), 1 << 20))
    except zlib.error:
        return
    BY_CHANCE[str(random.choice(list(BY_CHANCE)))](rows, random)
    data[start - 8 : end + 4] = chunk(b"IDAT", zlib.compress(bytes(rows)))


def _some_chunk(data: bytearray, random: Random, kind: bytes | None = None) -> tuple[int, int]:
    places, place = [], 8
    while place + 12 <= len(data) and len(places) < 100:
        (length,) = struct.unpack_from(">I", data, place)
        if place + 12 + length > len(data):
            break
        if kind is None or data[place + 4 : place + 8] == kind:
            places.append((place + 8, place + 8 + length))
        place += 12 + length
    return places[int(random.integers(len(places)))] if places else (0, 0)


def _signed(data: bytearray, start: int, end: int) -> None:
    struct.pack_into(">I", data, end, zlib.crc32(data[start - 4 : end]))


DESIGNED: dict[str, dict[str, Change]] = {
    "DICOM": {
        "a value of the header": _element, "a length": _length, "another transfer syntax": _syntax, "pixels": _pixels,
        "the codestream's start": _codestream, "a marker": _marker,
    },
    "PNG": {"a chunk": _chunk, "the size": _size, "the rows": _rows},
    "JPEG": {"a marker": _marker, "the codestream's start": _codestream},
}  # fmt: skip
