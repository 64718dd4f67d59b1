"""What compressed pixels say of themselves before they are decoded: size, depth, sign, and whether their end is there.

A decoder allocates what the codestream says, not what the DICOM header says: 2 kB of JPEG 2000 can ask for gigabytes. So the
codestream is read first (JPEG and JPEG-LS: ITU-T T.81 B.2, T.87 C.2; JPEG 2000: T.800 A.5; RLE: DICOM PS3.5 annex G).
"""

import struct
from dataclasses import dataclass
from itertools import pairwise

from hilum.pixels.codes import refused

_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # JPEG markers without a body
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # start of a frame; F7 is JPEG-LS
_MARKERS = 10_000  # most markers and fill bytes ahead of a frame
_EMPTY = 1024  # most steps of an RLE segment that say nothing
_TILES = 4096  # most of a JPEG 2000 picture: a decoder keeps kilobytes for each, and its format allows 65,535


@dataclass(frozen=True)
class Codestream:
    """Size in pixels, bits per sample (sign included), samples per pixel, and what remains to be decoded."""

    columns: int
    rows: int
    precision: int
    samples: int
    signed: bool
    data: bytes


def jpeg_codestream(data: bytes, frames: frozenset[int]) -> Codestream:
    """The frame header of a JPEG or JPEG-LS codestream. frames: the kinds of frame (second byte of the marker) that are meant."""
    if data[:2] != b"\xff\xd8":
        raise refused("undecodable", "no codestream starts here")
    place = 2
    for _ in range(_MARKERS):
        if place + 4 > len(data) or data[place] != 0xFF:
            break
        marker = data[place + 1]
        if marker == 0xFF or marker in _STANDALONE:  # fill bytes
            place += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        if marker in _FRAMES and place + 10 <= len(data):
            if marker not in frames:
                raise refused("undecodable", "another kind of JPEG than the transfer syntax says")
            precision, rows, columns, samples = struct.unpack_from(">BHHB", data, place + 4)
            return Codestream(columns, rows, precision, samples, signed=False, data=data)
        place += 2 + max(length, 2)
    raise refused("undecodable", "the compressed data have no frame header")


def jpeg2000_codestream(data: bytes) -> Codestream:
    """The SIZ segment of a JPEG 2000 codestream; of one in a JP2 file too, which is taken out of it."""
    if data[4:8] == b"jP  ":
        data = _out_of_jp2(data)
    if data[:4] != b"\xff\x4f\xff\x51" or len(data) < 42:
        raise refused("undecodable", "no JPEG 2000 codestream starts here")
    x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0, samples = struct.unpack_from(">8IH", data, 8)
    components = data[42 : 42 + 3 * samples]
    depths = set(components[0::3])
    if len(depths) != 1 or set(components[1::3]) != {1} or set(components[2::3]) != {1}:
        raise refused("undecodable", "components of different depth or size")
    if not (tile_x and tile_y and tile_x0 <= x0 < x1 and tile_y0 <= y0 < y1):
        raise refused("undecodable", "a size that makes no sense")
    if -(-(x1 - tile_x0) // tile_x) * -(-(y1 - tile_y0) // tile_y) > _TILES:
        raise refused("undecodable", "far too many tiles")
    depth = depths.pop()
    return Codestream(x1 - x0, y1 - y0, (depth & 0x7F) + 1, samples, signed=depth > 0x7F, data=data)


def ends(data: bytes) -> bool:
    """Whether JPEG, JPEG-LS or JPEG 2000 data end with their end marker (padding after it does not count)."""
    return data.rstrip(b"\0\xff").endswith(b"\xff\xd9")


def check_rle(frame: bytes, segments: int, size: int) -> None:
    """Raise where an RLE frame has not this many segments, or one does not expand to `size` bytes (two of padding are borne)."""
    if len(frame) < 64:
        raise refused("undecodable", "the RLE header is cut off")
    count, *offsets = struct.unpack_from("<16I", frame)
    places = [*offsets[:count], len(frame)]
    if count != segments or places[0] != 64 or places != sorted(places):
        raise refused("undecodable", "the RLE header does not fit the picture")
    for start, end in pairwise(places):
        if end - start > size * 3 // 2 + 1024:  # the worst encoder writes four bytes for three
            raise refused("undecodable", "the RLE data do not fit the picture")
        if not size <= _expanded(frame[start:end], size + 2) <= size + 2:
            raise refused("undecodable", "the RLE data do not fit the picture")


def _expanded(segment: bytes, limit: int) -> int:
    """Bytes that a segment expands to, counted no further than the limit; over it too where the segment is mostly empty steps."""
    place = total = empty = 0
    end = len(segment)
    while place < end and total <= limit:
        head = segment[place]
        if head > 128:
            total += 257 - head if place + 1 < end else 0
            place += 2
        elif head < 128:
            total += min(head + 1, end - place - 1)
            place += head + 2
        else:
            place += 1
            empty += 1
            if empty > _EMPTY:
                return limit + 1
    return total


def _out_of_jp2(data: bytes) -> bytes:
    """The contiguous codestream box of a JP2 file (T.800 I.4)."""
    place = 0
    for _ in range(64):
        if place + 16 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, place)
        head = 8
        if length == 1:
            (length,), head = struct.unpack_from(">Q", data, place + 8), 16
        if kind == b"jp2c":
            return data[place + head : place + length if length else len(data)]
        if length < head:
            break
        place += length
    raise refused("undecodable", "a JP2 file without a codestream")
