"""PNG and JPEG: what the header says, whether the file is whole, and the picture as grey numbers.

Sizes are read from the header before anything is decoded, and a file that ends early or whose bytes were damaged is
refused: decoders fill what is missing with black or grey and say nothing.
"""

import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hilum.errors import UnreadableImage, from_os_error

PNG_MAGIC, JPEG_MAGIC = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
PIXEL_LIMIT = 100_000_000
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_AGAIN = "copy or export the file again, or leave it out"


@dataclass(frozen=True)
class Header:
    """width, height in pixels; bits per sample as stored; significant: bits that hold data, null where not said."""

    width: int
    height: int
    bits: int
    significant: int | None = None


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of a PNG or JPEG as stored, from its header alone."""
    data = file_bytes(path, 1 << 20)
    header = _png_header(data, path) if data.startswith(PNG_MAGIC) else _jpeg_header(data, path)
    return header.width, header.height


def read_png(
    data: bytes, path: str | Path, *, at_least: int | None = None, pixel_limit: int = PIXEL_LIMIT
) -> np.ndarray:
    """The grey picture of a PNG, (H, W) uint8, or uint16 over its full range. Raises UnreadableImage.

    Colour becomes luma; transparency is ignored. 16-bit samples are stretched to 0..65535 from the bits that the file
    declares (sBIT), else from the fewest bits that hold its largest value: 12-bit data in a 16-bit file is common.
    """
    header = _png_header(data, path)
    _check_size(header, path, pixel_limit)
    _check_png_whole(data, header, path)
    image: np.ndarray = _decoded(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH, path)
    if image.dtype == np.uint16:
        bits = header.significant or max(8, int(image.max()).bit_length())
        if bits < 16:
            stretched = image.astype(np.float32) * (65535 / (2**bits - 1)) + 0.5
            image = np.minimum(stretched, 65535).astype(np.uint16)
    return image


def read_jpeg(
    data: bytes, path: str | Path, *, at_least: int | None = None, pixel_limit: int = PIXEL_LIMIT
) -> np.ndarray:
    """The grey picture of a JPEG, (H, W) uint8, turned as its EXIF orientation says. Raises UnreadableImage.

    at_least: the picture may be decoded at 1/2, 1/4 or 1/8 (in the DCT, which is fast) while its shorter side keeps
        this many pixels.
    """
    header = _jpeg_header(data, path)
    _check_size(header, path, pixel_limit)
    _check_jpeg_whole(data, path)
    if header.bits != 8:
        raise UnreadableImage(f"a JPEG of {header.bits} bits is not supported", where=path, do="convert it to PNG")
    flag = cv2.IMREAD_GRAYSCALE
    for factor, reduced in (
        (8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
        (4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
        (2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
    ):
        if at_least and min(header.width, header.height) // factor >= at_least:
            flag = reduced
            break
    return _decoded(data, flag, path)


def file_bytes(path: str | Path, most: int = -1) -> bytes:
    """The bytes of a file. Raises UnreadableImage where it cannot be opened."""
    try:
        with Path(path).open("rb") as file:
            return file.read(most)
    except OSError as error:
        told = from_os_error(error, path)
        raise UnreadableImage(told.what, where=path, do="check the path and its permissions") from error


def _decoded(data: bytes, flag: int, path: str | Path) -> np.ndarray:
    try:
        image: np.ndarray | None = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error as error:
        raise UnreadableImage("the picture cannot be decoded", where=path, do=_AGAIN) from error
    if image is None or image.ndim != 2:
        raise UnreadableImage("the picture cannot be decoded", where=path, do=_AGAIN)
    return image


def _check_size(header: Header, path: str | Path, limit: int) -> None:
    if header.width < 1 or header.height < 1:
        raise UnreadableImage("the header says that the picture has no pixels", where=path, do=_AGAIN)
    if header.width * header.height > limit:
        raise UnreadableImage(
            f"the header asks for {header.width:,} x {header.height:,} pixels, more than the limit of {limit:,}",
            where=path,
            do="no chest X-ray is that large: check where the file comes from",
        )


def _png_header(data: bytes, path: str | Path) -> Header:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise UnreadableImage("the PNG ends within its header", where=path, do=_AGAIN)
    width, height, bits = struct.unpack(">IIB", data[16:25])
    found = data.find(b"sBIT", 33, 4096)
    significant = (
        max(data[found + 4 : found + 4 + struct.unpack(">I", data[found - 4 : found])[0]][:3]) if found > 0 else None
    )
    return Header(width, height, bits, significant if significant and 8 <= significant <= bits else None)


def _check_png_whole(data: bytes, header: Header, path: str | Path) -> None:
    """Every chunk is there with its checksum, up to IEND, and the picture data has its full length."""
    position, inflater, length = 8, zlib.decompressobj(), 0
    wanted = _png_data_length(data, header)
    while True:
        if position + 12 > len(data):
            raise UnreadableImage("the PNG ends early", where=path, do=_AGAIN)
        size, kind = struct.unpack(">I4s", data[position : position + 8])
        end = position + 12 + size
        if end > len(data):
            raise UnreadableImage("the PNG ends early", where=path, do=_AGAIN)
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != struct.unpack(">I", data[end - 4 : end])[0]:
            raise UnreadableImage("the PNG is damaged: a checksum does not fit", where=path, do=_AGAIN)
        if kind == b"IDAT":
            length += _inflated(inflater, data[position + 8 : end - 4], path)
            if length > wanted + 65536:
                raise UnreadableImage("the PNG holds more data than its header says", where=path, do=_AGAIN)
        if kind == b"IEND":
            break
        position = end
    if length < wanted:
        raise UnreadableImage("the PNG holds less data than its header says", where=path, do=_AGAIN)


def _inflated(inflater: "zlib._Decompress", data: bytes, path: str | Path, step: int = 1 << 20) -> int:
    """How many bytes the data unpacks to, a megabyte at a time so that a bomb cannot fill the memory."""
    total = 0
    try:
        while data:
            total += len(inflater.decompress(data, step))
            data = inflater.unconsumed_tail
    except zlib.error as error:
        raise UnreadableImage("the PNG is damaged: its data cannot be unpacked", where=path, do=_AGAIN) from error
    return total


def _png_data_length(data: bytes, header: Header) -> int:
    """Bytes of the unpacked picture data: one filter byte and the samples of each row, over all interlace passes."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(data[25], 1)

    def row(width: int) -> int:
        return 1 + (width * channels * header.bits + 7) // 8 if width else 0

    if data[28] == 0:
        return header.height * row(header.width)
    adam7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    return sum(-(-max(0, header.height - y) // dy) * row(-(-max(0, header.width - x) // dx)) for x, y, dx, dy in adam7)


def _jpeg_header(data: bytes, path: str | Path) -> Header:
    for marker, start, _ in _jpeg_segments(data, path):
        if marker in _FRAME_MARKERS:
            bits, height, width = struct.unpack(">BHH", data[start : start + 5])
            return Header(width, height, bits)
    raise UnreadableImage("the JPEG has no frame header", where=path, do=_AGAIN)


def _jpeg_segments(data: bytes, path: str | Path) -> list[tuple[int, int, int]]:
    """(marker, start of its content, end) of every segment up to the first scan. A JPEG's sizes stand before it."""
    segments, position = [], 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise UnreadableImage("the JPEG is damaged: a marker is missing", where=path, do=_AGAIN)
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        end = position + 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
        if end > len(data):
            break
        segments.append((marker, position + 4, end))
        if marker == 0xDA:
            return segments
        position = end
    if segments and segments[-1][0] != 0xDA and any(marker in _FRAME_MARKERS for marker, _, _ in segments):
        return segments  # a beginning that was read for its header
    raise UnreadableImage("the JPEG ends within its header", where=path, do=_AGAIN)


def _check_jpeg_whole(data: bytes, path: str | Path) -> None:
    """The scans run up to the end-of-image marker."""
    marker, _, position = _jpeg_segments(data, path)[-1]
    if marker != 0xDA:
        raise UnreadableImage("the JPEG ends early", where=path, do=_AGAIN)
    while found := _MARKER_AFTER_SCAN.search(data, position):
        if found.group()[1] == 0xD9:
            return
        begin = found.start() + 2
        if begin + 2 > len(data):
            break
        position = begin + struct.unpack(">H", data[begin : begin + 2])[0]  # tables or the next scan
    raise UnreadableImage("the JPEG ends early", where=path, do=_AGAIN)
