"""What isolation costs: seconds for one file in the process and in the decoder's own, its start, and headers per second.

    python bench/isolation.py [--quick]

The files are made: a picture of 2800 x 2300 px, native (13 MB) and JPEG 2000 in DICOM, and as PNG. All ways take turns. Milliseconds
of the processor, parent and child together, are the mean of all goes: a busy machine adds little to them. On the clock the shortest
go counts. Headers are of small files, warm in memory.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from result import save

sys.path.insert(0, str(Path(__file__).parent.parent))  # the files are made as those of the tests are

from hilum.pixels.dicom.read import read_dicom
from hilum.pixels.isolated.decoder import PATIENT_SECONDS, Decoder
from hilum.pixels.raster import decode_raster
from hilum.pixels.spec import PixelSpec
from hilum.progress import silent
from hilum.sources.dicom_tree import read_tree
from tests.pixels import dicom_files as d

HEIGHT, WIDTH = 2800, 2300
GOAL = 30  # ms more for the native file


def milliseconds(ways: list[Callable[[], object]], goes: int, child: int | None) -> list[tuple[float, float]]:
    """(of the processor, mean; on the clock, shortest) of each way, which take turns. child: the process that works for some."""
    used, best = np.zeros(len(ways)), np.full(len(ways), np.inf)
    for _ in range(goes):
        for k, way in enumerate(ways):
            wall, own, childs = time.perf_counter(), time.thread_time(), processor(child)
            way()
            used[k] += time.thread_time() - own + processor(child) - childs
            best[k] = min(best[k], time.perf_counter() - wall)
    return [(round(1000 * u, 1), round(1000 * b, 1)) for u, b in zip(used / goes, best, strict=True)]


def processor(process: int | None) -> float:
    """Seconds of the processor that a process has used, in steps of a hundredth."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split() if process else []
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK") if words else 0.0


def headers_per_second(files: int) -> float:
    small = np.zeros((64, 64), np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{k}") for k in range(files)]
        for k, path in enumerate(paths):
            more = {
                f"{name}": "x"
                for name in ("AccessionNumber", "StudyDescription", "SeriesDescription", "InstitutionName")
            }
            path.write_bytes(d.dicom(small, SOPInstanceUID=f"1.2.{k}", **more))
        return 1000 * files / milliseconds([lambda: read_tree(paths, Path(folder), silent)], 3, None)[0][1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few goes, and no result is written")
    options = parser.parse_args()
    goes, headers = (3, 200) if options.quick else (12, 2000)
    noise = np.random.default_rng(0).normal(size=(HEIGHT, WIDTH)).astype(np.float32)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    values = (
        (2000 + 1500 * np.sin(x / 300) * np.cos(y / 400) + 20 * cv2.GaussianBlur(noise, (0, 0), 1))
        .clip(0, 4095)
        .astype(np.uint16)
    )
    eight = (values >> 4).astype(np.uint8)
    files: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
        "DICOM, native, 13 MB": (d.dicom(values, WindowCenter=2000, WindowWidth=3500), read_dicom),
        "DICOM, JPEG 2000": (d.dicom(values, syntax=d.J2K, WindowCenter=2000, WindowWidth=3500), read_dicom),
        "PNG": (cv2.imencode(".png", eight)[1].tobytes(), decode_raster),
    }
    rows: list[dict[str, Any]] = []
    spec = PixelSpec(size=512)
    with Decoder(seconds=PATIENT_SECONDS) as decoder:
        decoder.start()
        for name, (data, direct) in files.items():
            ways: list[Callable[[], object]] = [
                partial(direct, data), partial(decoder.decode, data), partial(decoder.decode, data, spec=spec)
            ]  # fmt: skip
            within, apart, rendered = milliseconds(ways, goes, decoder.pid)
            rows.append({
                "what": name, "bytes": len(data), "in the process": within, "isolated": apart, "isolated, to 512 px": rendered,
                "more": round(apart[0] - within[0], 1),
            })  # fmt: skip
    start = min(start_one() for _ in range(3 if options.quick else 5))
    rate = headers_per_second(headers)
    print(
        f"{'ms: processor, clock':<28}{'bytes':>12}{'in the process':>18}{'isolated':>18}{'to 512 px':>18}{'more':>8}"
    )
    for row in rows:
        name, size, *times, more = row.values()
        print(f"{name:<28}{size:>12,}" + "".join(f"{one:>10}{two:>8}" for one, two in times) + f"{more:>8}")
    print(f"starting the decoder: {start:.0f} ms of the processor; headers: {rate:,.0f} a second")
    rows += [
        {"what": "start, ms of the processor", "isolated": round(start)},
        {"what": "headers a second", "in the process": round(rate)},
    ]
    if not options.quick:
        save({
            "name": "isolation", "ours": rows[0]["more"], "peer": None, "unit": "ms of the processor more for a native DICOM file of 13 MB", "ratio": None,
            "goal": f"< {GOAL} ms; >= 1,000 headers a second", "command": "python bench/isolation.py", "rows": rows,
        })  # fmt: skip


def start_one() -> float:
    """Milliseconds of the processor until a decoder is ready, its end included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Decoder() as decoder:
        decoder.start()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


if __name__ == "__main__":
    main()
