"""Image files for tests, made by hand: PNG of every kind, and the picture they show."""

import struct
import zlib
from pathlib import Path

import numpy as np

ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)  # y, x, dy, dx


def picture(height: int = 48, width: int = 61, top: int = 255) -> np.ndarray:
    """A smooth picture (H, W) of 0..top with a corner of its own, so that no turn or flip of it looks the same."""
    y, x = np.mgrid[0:height, 0:width]
    values = 0.5 + 0.3 * np.sin(y / 9) * np.cos(x / 7) + 0.15 * (y / height)
    values[: height // 4, : width // 5] = 1.0
    return np.rint(values.clip(0, 1) * top).astype(np.uint16 if top > 255 else np.uint8)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    samples: np.ndarray,
    *,
    depth: int = 8,
    colour: int = 0,
    before: bytes = b"",
    interlaced: bool = False,
    stream: bytes | None = None,
    size: tuple[int, int] | None = None,
) -> bytes:
    """A PNG of samples (H, W) or (H, W, C) as stored. before: chunks ahead of the pixels; stream, size: instead of the true ones."""
    if samples.ndim == 2:
        samples = samples[..., None]
    parts = [samples[y::dy, x::dx] for y, x, dy, dx in ADAM7] if interlaced else [samples]
    rows = b"".join(_row(row, depth) for part in parts if part.size for row in part)
    height, width = size or samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    data = zlib.compress(rows) if stream is None else stream
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", data[:100]) + chunk(b"IDAT", data[100:])
        + chunk(b"IEND", b"")
    )  # fmt: skip


def _row(row: np.ndarray, depth: int) -> bytes:
    if depth == 16:
        return b"\0" + row.astype(">u2").tobytes()
    if depth == 8:
        return b"\0" + row.astype(np.uint8).tobytes()
    bits = (row.reshape(-1, 1) >> np.arange(depth - 1, -1, -1)) & 1
    return b"\0" + np.packbits(bits.astype(np.uint8)).tobytes()


def rows_of(image: np.ndarray) -> bytes:
    """The unpacked stream of an 8-bit grey PNG."""
    return b"".join(_row(row, 8) for row in image[..., None])


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
