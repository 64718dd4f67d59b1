"""Bombs: small or broken files that ask a decoder for gigabytes or minutes, each through the isolated decoder.

    python bench/bombs.py [--only WORD] [--quick]

Goal R3: each is answered in less than 2 s with less than 300 MB of resident memory more, parent and child together, than
before. Seconds are those of the processor, as the machine may be busy; the clock on the wall is told beside them. Memory is sampled
every 2 ms, the child's from its own high-water mark. Of three goes the shortest time and the most memory count. A bomb may be answered with a picture: some are legal, at the limit of 40 million pixels.
"""

import argparse
import io
import os
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image
from result import save

sys.path.insert(0, str(Path(__file__).parent.parent))  # the files are made as those of the tests are

from hilum.errors import UnreadableImage
from hilum.pixels.isolated.decoder import Decoder
from tests.pixels import dicom_files as d
from tests.pixels.files import chunk, png

SECONDS, MEGABYTES = 2.0, 300
GOES = 3
SMALL = np.zeros((64, 64), np.uint16)
GREY = np.zeros((64, 64), np.uint8)
MEGA = 1_000_000


def of_size(rows: int, columns: int, **more: object) -> bytes:
    """A DICOM file that claims this size."""
    return d.dicom(SMALL, **({"Rows": rows, "Columns": columns} | more))  # type: ignore[arg-type]


def with_elements(extra: bytes, syntax: str = d.EXPLICIT) -> bytes:
    """A DICOM file with more elements ahead of group 0008 of its data set."""
    whole = d.dicom(SMALL, syntax=syntax)
    place = whole.index(b"\x08\x00\x16\x00")
    return whole[:place] + extra + whole[place:]


def private(count: int) -> bytes:
    return b"\x07\x00\x01\x10LO\x00\x00" * count


def nested(depth: int, length: int) -> bytes:
    """Sequences in sequences, explicit VR; lengths undefined, or all claiming the same."""
    return (
        struct.pack("<HH2sHI", 0x0007, 0x1002, b"SQ", 0, length) + struct.pack("<HHI", 0xFFFE, 0xE000, length)
    ) * depth


def deflated() -> bytes:
    whole = d.dicom(SMALL, syntax=d.DEFLATED)
    place = whole.index(d.DEFLATED.encode()) + 22
    packer = zlib.compressobj(9, wbits=-15)
    body = b"".join(packer.compress(bytes(MEGA)) for _ in range(1000)) + packer.flush()
    return whole[:place] + body


def rle(segment: bytes, size: tuple[int, int]) -> bytes:
    frame = struct.pack("<16I", 1, 64, *[0] * 14) + segment
    return of_size(*size, syntax=d.RLE, bits=8, allocated=8, frame=frame)


def sized(stream: bytes, marker: bytes, rows: int, columns: int) -> bytes:
    """A JPEG or JPEG-LS codestream whose frame header claims another size."""
    place = stream.index(marker) + 5
    return stream[:place] + struct.pack(">HH", rows, columns) + stream[place + 4 :]


def jpeg2000(rows: int, columns: int, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((rows, columns), np.uint8)).save(buffer, "JPEG2000", no_jp2=True, **options)
    return buffer.getvalue()


def jpeg2000_claiming(rows: int, columns: int) -> bytes:
    """A picture of 64 x 64 whose codestream claims another size, in one tile."""
    stream = bytearray(jpeg2000(64, 64))
    struct.pack_into(">6I", stream, 8, columns, rows, 0, 0, columns, rows)
    return bytes(stream)


def claimed(syntax: str, frame: bytes, rows: int, columns: int) -> bytes:
    return of_size(rows, columns, syntax=syntax, frame=frame, bits=8, allocated=8)


def progressive(scans: int, side: int = 6000) -> bytes:
    """A progressive JPEG with one scan repeated: few bytes each, a pass over all blocks each."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((side, side), np.uint8)).save(buffer, "JPEG", progressive=True)
    whole = buffer.getvalue()
    starts = [k for k in range(len(whole) - 1) if whole[k : k + 2] == b"\xff\xda"]
    last = whole[starts[-1] : -2]
    return whole[:-2] + last * scans + whole[-2:]


def idat(size: int) -> bytes:
    """So many bytes of pixels and filters, all zero, as PNG packs them."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(min(MEGA, size - k))) for k in range(0, size, MEGA)) + packer.flush()


def compressed_text(kind: bytes, head: bytes) -> bytes:
    return chunk(kind, head + zlib.compress(bytes(100 * MEGA), 9))


def jpeg_segments(count: int) -> bytes:
    whole = imagecodecs.jpeg_encode(GREY)
    return whole[:2] + b"\xff\xe5\x00\x02" * count + whole[2:]


def dicom_jpeg(extra: bytes) -> bytes:
    """A JPEG of 4096 x 4096 in a DICOM file with more ahead of its frame header."""
    stream = imagecodecs.jpeg_encode(np.zeros((4096, 4096), np.uint8))
    return claimed(d.BASELINE, stream[:2] + extra + stream[2:], 4096, 4096)


def baseline_scans(count: int) -> bytes:
    """A JPEG of 4096 x 4096 in a DICOM file whose one scan is there many times."""
    stream = imagecodecs.jpeg_encode(np.zeros((4096, 4096), np.uint8))
    scan = stream[stream.index(b"\xff\xda") : -2]
    return claimed(d.BASELINE, stream[:-2] + scan * count + stream[-2:], 4096, 4096)


def many_luts(items: int) -> bytes:
    table = d.lut(np.arange(65536) % 65535, 0, 16)
    return d.dicom(SMALL, VOILUTSequence=[table] * items)


def fragments(count: int) -> bytes:
    whole = d.dicom(SMALL, syntax=d.RLE)
    place = whole.rindex(struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))
    return whole[:place] + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * count + whole[place:]


BOMBS: dict[str, Callable[[], bytes]] = {
    "deflated DICOM of 1 GB": deflated,
    "RLE, 60000 x 60000": lambda: rle(b"\x81\x00" * 28_000, (60_000, 60_000)),
    "RLE, runs without end": lambda: rle(b"\x81\x00" * 20 * MEGA, (5000, 8000)),
    "RLE, 60 MB of single bytes": lambda: rle(b"\x00\x01" * 30 * MEGA, (5000, 6000)),
    "RLE, 60 MB that say nothing": lambda: rle(b"\x80" * 60 * MEGA, (5000, 8000)),
    "JPEG 2000, 20000 x 20000 zeros": lambda: claimed(d.J2K, jpeg2000_claiming(20_000, 20_000), 20_000, 20_000),
    "JPEG 2000, the header says 64 x 64": lambda: claimed(d.J2K, jpeg2000_claiming(20_000, 20_000), 64, 64),
    "JPEG 2000, legal 8000 x 5000 zeros": lambda: claimed(d.J2K, jpeg2000(5000, 8000), 5000, 8000),
    "JPEG 2000, 8000 x 5000 of 64 x 64": lambda: claimed(d.J2K, jpeg2000_claiming(5000, 8000), 5000, 8000),
    "JPEG 2000, 39,000 tiles": lambda: claimed(d.J2K, jpeg2000(5000, 8000, tile_size=(32, 32)), 5000, 8000),
    "JPEG, 65500 x 65500": lambda: claimed(d.BASELINE, sized(imagecodecs.jpeg_encode(GREY), b"\xff\xc0", 65_500, 65_500), 65_500, 65_500),
    "JPEG, the header says 64 x 64": lambda: claimed(d.BASELINE, sized(imagecodecs.jpeg_encode(GREY), b"\xff\xc0", 65_500, 65_500), 64, 64),
    "JPEG, 8000 x 5000, cut off": lambda: claimed(d.BASELINE, sized(imagecodecs.jpeg_encode(GREY), b"\xff\xc0", 5000, 8000), 5000, 8000),
    "JPEG in DICOM, 14 million segments": lambda: dicom_jpeg(b"\xff\xe5\x00\x02" * 14 * MEGA),
    "JPEG in DICOM, 50 MB of fill bytes": lambda: dicom_jpeg(b"\xff" * 50 * MEGA),
    "JPEG in DICOM, 300 scans": lambda: baseline_scans(300),
    "JPEG-LS, 60000 x 60000": lambda: claimed(d.JLS, sized(imagecodecs.jpegls_encode(GREY), b"\xff\xf7", 60_000, 60_000), 60_000, 60_000),
    "JPEG-LS, 8000 x 5000 of 64 x 64": lambda: claimed(d.JLS, sized(imagecodecs.jpegls_encode(GREY), b"\xff\xf7", 5000, 8000), 5000, 8000),
    "JPEG lossless, 65000 x 65000": lambda: claimed(d.LOSSLESS_SV1, sized(imagecodecs.jpeg_encode(GREY, lossless=True), b"\xff\xc3", 65_000, 65_000), 65_000, 65_000),
    "JPEG lossless, 8000 x 5000 of 64 x 64": lambda: claimed(d.LOSSLESS_SV1, sized(imagecodecs.jpeg_encode(GREY, lossless=True), b"\xff\xc3", 5000, 8000), 5000, 8000),
    "30,000 frames": lambda: d.dicom(SMALL, NumberOfFrames=30_000),
    "5,000 nested sequences": lambda: with_elements(nested(5000, 8)),
    "5,000 nested, undefined length": lambda: with_elements(nested(5000, 0xFFFFFFFF)),
    "a value of 4 GB": lambda: with_elements(struct.pack("<HH2sHI", 0x0007, 0x1003, b"UT", 0, 0xFFFFFFF0)),
    "native, 8000 x 5000, no pixels": lambda: of_size(5000, 8000, pixels=b""),
    "native, 65535 x 65535": lambda: of_size(65_535, 65_535),
    "millions of fragments": lambda: fragments(7 * MEGA),
    "400 LUTs of 65,536 entries": lambda: many_luts(400),
    "200 MB of private elements": lambda: with_elements(private(25 * MEGA)),
    "60 MB of private elements": lambda: with_elements(private(7 * MEGA)),
    "PNG, 50000 x 50000": lambda: png(GREY, size=(50_000, 50_000)),
    "PNG, 1 GB of pixels for 64 x 64": lambda: png(GREY, stream=idat(1000 * MEGA)),
    "PNG, legal 8000 x 5000 zeros": lambda: png(GREY, stream=idat(40_005_000), size=(5000, 8000)),
    "PNG, RGBA of 16 bits, 8000 x 5000": lambda: png(GREY, depth=16, colour=6, stream=idat(320_005_000), size=(5000, 8000)),
    "PNG, legal 16 bits, 8000 x 5000": lambda: png(GREY, depth=16, stream=idat(80_005_000), size=(5000, 8000)),
    "PNG, 100 MB of text": lambda: png(GREY, before=compressed_text(b"zTXt", b"Comment\0\0")),
    "PNG, a colour profile of 100 MB": lambda: png(GREY, before=compressed_text(b"iCCP", b"icc\0\0")),
    "PNG, 5 million empty chunks": lambda: png(GREY, before=chunk(b"teSt", b"") * 5 * MEGA),
    "JPEG, 5,000 progressive scans": lambda: progressive(5000),
    "JPEG, 15 million segments": lambda: jpeg_segments(15 * MEGA),
    "gzip": lambda: b"\x1f\x8b\x08" + bytes(1000),
    "zip": lambda: b"PK\x03\x04" + bytes(1000),
    "TIFF, 4 GB": lambda: b"II*\0" + bytes(1000),
}  # fmt: skip


class Watch(threading.Thread):
    """Samples this process and its child: resident memory and the child's high-water mark in MB, the child's processor seconds."""

    def __init__(self, child: int | None):
        super().__init__(daemon=True)
        self.child, self.over = child, threading.Event()
        self.before = self.largest = self._sample()

    def _sample(self) -> tuple[float, ...]:
        return memory("self", "VmRSS"), memory(str(self.child), "VmHWM"), processor(str(self.child))

    def run(self) -> None:
        over = False
        while not over:  # once more after the end
            over = self.over.wait(0.002)
            self.largest = tuple(map(max, self.largest, self._sample()))

    def more(self) -> tuple[float, float]:
        """MB and processor seconds beyond what both had."""
        own, childs, seconds = (now - then for now, then in zip(self.largest, self.before, strict=True))
        return own + childs, seconds


def memory(process: str, field: str) -> float:
    """MB as /proc tells, 0 where the process is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0.0)


def processor(process: str) -> float:
    """Seconds of the processor, in steps of a hundredth, 0 where the process is gone."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def detonate(name: str, data: bytes) -> dict[str, Any]:
    """One row of the table: a fresh child, warm, and one bomb."""
    with Decoder() as decoder:
        decoder.decode(d.dicom(SMALL))
        watch = Watch(decoder.pid)
        watch.start()
        before, own = time.perf_counter(), time.thread_time()
        try:
            answer = "read, {} x {}".format(*decoder.decode(data).image.shape)
        except UnreadableImage as error:
            answer = error.code
        wall, own = time.perf_counter() - before, time.thread_time() - own
        watch.over.set()
        watch.join()
    megabytes, childs = watch.more()
    return {
        "what": name, "bytes": len(data), "answer": answer, "seconds": round(own + childs, 2), "wall": round(wall, 2),
        "megabytes": round(megabytes),
    }  # fmt: skip


def best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The shortest times and the most memory of several goes: other work on the machine only ever adds seconds."""
    seconds, wall = (min(row[name] for row in rows) for name in ("seconds", "wall"))
    return rows[0] | {"seconds": seconds, "wall": wall, "megabytes": max(row["megabytes"] for row in rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="bombs whose name holds this")
    parser.add_argument("--quick", action="store_true", help="each bomb once, and no result is written")
    options = parser.parse_args()
    print(f"{'':<42}{'bytes':>12}{'seconds':>10}{'wall':>8}{'MB more':>9}  answer")
    rows = []
    for name, make in BOMBS.items():
        if options.only in name:
            data = make()
            row = best([detonate(name, data) for _ in range(1 if options.quick else GOES)])
            held = row["seconds"] < SECONDS and row["megabytes"] < MEGABYTES and row["answer"] != "timeout"
            rows.append(row | {"held": held})
            told = row["answer"] + ("" if held else "   OVER")
            print(
                f"{name:<42}{row['bytes']:>12,}{row['seconds']:>10}{row['wall']:>8}{row['megabytes']:>9}  {told}",
                flush=True,
            )
    count = sum(row["held"] for row in rows)
    print(f"{count} of {len(rows)} bombs were answered within {SECONDS} s and {MEGABYTES} MB.")
    if not options.quick and not options.only:
        save({
            "name": "bombs", "ours": count, "peer": None, "unit": f"of {len(rows)} bombs held to {SECONDS} s and {MEGABYTES} MB", "ratio": None,
            "goal": "all", "command": "python bench/bombs.py", "rows": rows,
        })  # fmt: skip


if __name__ == "__main__":
    main()
