"""What a PNG or JPEG file says of itself, read without decoding a pixel: its size, its depth, and whether it is whole."""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from hilum.errors import UnreadableImage

PNG, JPEG, DICOM = "PNG", "JPEG", "DICOM"
READABLE = (PNG, JPEG, DICOM)

_PNG_START, _JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# Where a kind of file shows itself: kind, offset, bytes. The name of a file says nothing.
SIGNATURES: tuple[tuple[str, int, bytes], ...] = (
    (PNG, 0, _PNG_START),
    (JPEG, 0, _JPEG_START),
    (DICOM, 128, b"DICM"),
    ("GIF", 0, b"GIF8"),
    ("BMP", 0, b"BM"),
    ("TIFF", 0, b"II*\0"),
    ("TIFF", 0, b"MM\0*"),
    ("WebP", 8, b"WEBP"),
    ("JPEG 2000", 0, b"\0\0\0\x0cjP  "),
    ("gzip", 0, b"\x1f\x8b"),
    ("zip", 0, b"PK\x03\x04"),
    ("PDF", 0, b"%PDF"),
)

_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by colour type
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_OTHER_FRAMES = {*range(0xC3, 0xD0)} - {
    0xC4,
    0xC8,
    0xCC,
}  # lossless, arithmetic, hierarchical; C4, C8, CC are no frames
_MOST_PARTS = 100_000  # PNG chunks or JPEG segments of a file; writers make one of each 8 kB at most
_MOST_SCANS = 100  # of a progressive JPEG: each is a pass over all blocks, however few its bytes
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)  # none of coded data, restarts, fill bytes


@dataclass(frozen=True)
class Header:
    """The facts of an image file before it is decoded.

    width, height: in pixels, as stored (before `orientation`); depth: bits per sample; channels: samples per pixel.
    orientation: the EXIF code, 1 to 8; 1 is upright.
    skip: byte ranges to leave out before decoding: what is no pixel (text, colour profiles), and PNG transparency by key
        colour, which decoders treat differently.
    """

    kind: str
    width: int
    height: int
    depth: int
    channels: int
    orientation: int = 1
    skip: tuple[tuple[int, int], ...] = ()


def kind_of(start: bytes) -> str | None:
    """The kind of a file by its first 140 bytes, or None where they show no kind we know."""
    fitting = (kind for kind, offset, signature in SIGNATURES if start.startswith(signature, offset))
    return next(fitting, None)


def readable_kind(start: bytes) -> str:
    """The kind of a file that begins so. Raises UnreadableImage where it is none of READABLE."""
    kind = kind_of(start)
    if kind in READABLE:
        return kind
    if not start:
        what, do = "the file is empty", "copy or download the file again"
    elif kind is None:
        what, do = "this is not an image file (its first bytes show no known kind)", "leave it out"
    else:
        what, do = f"this is a {kind} file, which is not read", "convert it to PNG"
    raise UnreadableImage(what, do=do, code="unsupported-type")


def damaged(what: str) -> UnreadableImage:
    """The error for a file that is not whole."""
    return UnreadableImage(what, do="copy or download the file again")


def read_header(data: bytes, *, pixel_limit: int | None = None, whole: bool = True) -> Header:
    """The header of a PNG or JPEG file.

    data: the file, or its beginning where `whole` is False: then only the size is looked for, and the rest is not checked.
    pixel_limit: most pixels that may be decoded.
    Raises UnreadableImage where the file breaks its format's rules, is cut off, or is larger than the limit.
    """
    reader = _jpeg_header if data.startswith(_JPEG_START) else _png_header
    return reader(data, pixel_limit, whole)


def check_stream(data: bytes, header: Header) -> None:
    """Raise UnreadableImage where the pixels of a PNG unpack to more than its size needs: a decoder unpacks all of it.

    This costs an unpacking of its own, so it is for files from outside.
    """
    samples = header.width * header.height * header.channels
    left = samples * header.depth // 8 + 4 * header.height + (1 << 16)  # a filter byte a row; interlaced rows are more
    stream = zlib.decompressobj()
    for kind, start, end, _ in _png_chunks(data):
        piece = data[start:end] if kind == b"IDAT" else b""
        while piece and not stream.eof:
            try:
                left -= len(stream.decompress(piece, 1 << 20))
            except zlib.error:
                return  # the decoder finds it too
            if left < 0:
                raise damaged("the PNG holds more data than its pixels need")
            piece = stream.unconsumed_tail


def _check_size(width: int, height: int, limit: int | None) -> None:
    if width < 1 or height < 1:
        raise damaged(f"the header says {width} x {height} pixels")
    if limit is not None and width * height > limit:
        raise UnreadableImage(
            f"the header says {width:,} x {height:,} pixels, over the limit of {limit / 1e6:,.0f} million",
            do="check the file; a picture that is truly so large needs a higher pixel_limit",
            code="too-many-pixels",
        )


def _png_header(data: bytes, limit: int | None, whole: bool) -> Header:
    header: Header | None = None
    has_pixels, orientation = False, 1
    skip: list[tuple[int, int]] = []
    for count, (kind, start, end, intact) in enumerate(_png_chunks(data)):
        body = data[start:end]
        if count > _MOST_PARTS:
            raise damaged("the PNG has far too many chunks")
        if header is None:
            if kind != b"IHDR" or len(body) != 13 or not intact:
                raise damaged("the PNG header is broken")
            width, height, depth, colour, compression, filters, _ = struct.unpack(">IIBBBBB", body)
            _check_size(width, height, limit)
            if depth not in _PNG_DEPTHS.get(colour, ()) or compression or filters:
                raise damaged(f"the PNG header says colour type {colour} with {depth} bits, which does not exist")
            header = Header(PNG, width, height, depth, {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour])
            if limit is not None:  # four channels of 16 bits count as four times the pixels of one
                _check_size(width, height, max(1, limit * 16 // max(16, depth * header.channels)))
            if not whole:
                return header
        elif not intact:
            name = f" {kind.decode()}" if kind.isalpha() else ""  # its bytes may be anything
            raise damaged(f"the PNG chunk{name} fails its checksum")
        elif kind == b"acTL":
            raise UnreadableImage("this PNG is animated: it holds several pictures", do="save one picture per file")
        elif kind == b"IDAT":
            has_pixels = True
        elif kind == b"IEND":
            if not has_pixels:
                raise damaged("the PNG holds no pixels")
            return Header(PNG, width, height, depth, header.channels, orientation, tuple(skip))
        elif kind not in (b"PLTE", b"tRNS") or (kind == b"tRNS" and colour != 3):
            orientation = _orientation(body) if kind == b"eXIf" else orientation
            skip.append((start - 8, end + 4))
    raise damaged("the PNG ends before its end: it is cut off")


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int, bool]]:
    """(kind, start of the body, end of the body, checksum is right) of each chunk that lies wholly in the data."""
    place = 8
    view = memoryview(data)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        start, end = place + 8, place + 8 + length
        if end + 4 > len(data):
            return
        (checksum,) = struct.unpack_from(">I", data, end)
        yield kind, start, end, zlib.crc32(view[place + 4 : end]) == checksum
        place = end + 4


def _jpeg_header(data: bytes, limit: int | None, whole: bool) -> Header:
    header: Header | None = None
    orientation, adobe, scans = 1, False, 0
    for count, (marker, start, end) in enumerate(_jpeg_segments(data)):
        if count > _MOST_PARTS or scans > _MOST_SCANS:
            raise damaged("the JPEG has far too many segments or scans")
        if marker in (_BASELINE, _EXTENDED, _PROGRESSIVE) and end - start >= 6:
            depth, height, width, channels = struct.unpack_from(">BHHB", data, start)
            _check_size(width, height, limit)
            header = Header(JPEG, width, height, depth, channels)
            if not whole:
                return header
        elif marker in _OTHER_FRAMES:
            raise UnreadableImage("this kind of JPEG (lossless or arithmetic) is not read", do="convert it to PNG")
        elif marker == 0xE1 and data[start : start + 6] == b"Exif\0\0":
            orientation = _orientation(data[start + 6 : end])
        elif marker == 0xEE and data[start : start + 5] == b"Adobe":
            adobe = True
        elif marker == 0xDA:
            scans += 1
        elif marker == 0xD9:
            break
    else:
        raise damaged("the JPEG ends before its end: it is cut off")
    if header is None or not scans:
        raise damaged("the JPEG holds no pixels")
    if header.depth != 8:
        raise UnreadableImage(f"a JPEG of {header.depth} bits is not read", do="convert it to a 16-bit PNG")
    if header.channels == 4 and not adobe:
        raise UnreadableImage("this CMYK JPEG does not say whether its inks are inverted", do="convert it to grey")
    return Header(JPEG, header.width, header.height, 8, header.channels, orientation)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment's body up to the end of image; entropy-coded data lie between and are passed over."""
    place = 2
    while found := _MARKER.search(data, place):
        marker, place = found[1][0], found.end()
        if marker == 0xD9:
            yield marker, place, place
            return
        if place + 2 > len(data):
            return
        (length,) = struct.unpack_from(">H", data, place)
        if length < 2 or place + length > len(data):
            return
        yield marker, place + 2, place + length
        place += length


def _orientation(exif: bytes) -> int:
    """The orientation that EXIF data state, 1 where they state none or make no sense."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (place,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, place)
        for entry in range(count):
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, place + 2 + 12 * entry)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
