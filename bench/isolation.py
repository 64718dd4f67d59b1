"""What isolation costs: seconds for one file in the process and in the decoder's own, its start, and headers per second.

    python bench/isolation.py [--quick]

The files are made: a chest X-ray of 2800 x 2300 px, native (13 MB) and JPEG 2000 in DICOM, and as PNG. Both ways take turns and the
shortest time of each counts: other work on the machine only ever adds. Headers are of small files, 40 elements, warm in memory.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from result import save

sys.path.insert(0, str(Path(__file__).parent.parent))  # the files are made as those of the tests are

from hilum.pixels.dicom import read_dicom
from hilum.pixels.isolated import Decoder
from hilum.pixels.raster import decode_raster
from hilum.pixels.spec import PixelSpec
from hilum.progress import silent
from hilum.sources.dicom_tree import read_tree
from tests.pixels import dicom_files as d

HEIGHT, WIDTH = 2800, 2300
GOAL = 30  # ms more for the native file


def shortest(ways: list[Callable[[], object]], goes: int) -> list[float]:
    """Seconds of each way, which take turns."""
    best = [float("inf")] * len(ways)
    for _ in range(goes):
        for k, way in enumerate(ways):
            before = time.perf_counter()
            way()
            best[k] = min(best[k], time.perf_counter() - before)
    return best


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
        return files / shortest([lambda: read_tree(paths, Path(folder), silent)], 3)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few goes, and no result is written")
    options = parser.parse_args()
    goes, headers = (3, 200) if options.quick else (10, 2000)
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
    with Decoder() as decoder:
        for name, (data, direct) in files.items():
            within, apart, rendered = shortest(
                [lambda: direct(data), lambda: decoder.decode(data), lambda: decoder.decode(data, spec=spec)],  # noqa: B023
                goes,
            )
            rows.append({
                "what": name, "bytes": len(data), "in the process": round(1000 * within, 1), "isolated": round(1000 * apart, 1),
                "more": round(1000 * (apart - within), 1), "isolated, rendered to 512 px": round(1000 * rendered, 1),
            })  # fmt: skip
    start = shortest([start_one], 3 if options.quick else 7)[0]
    rate = headers_per_second(headers)
    print(f"{'milliseconds':<28}{'bytes':>12}{'in process':>12}{'isolated':>10}{'more':>8}{'to 512 px':>11}")
    for row in rows:
        print("{:<28}{:>12,}{:>12}{:>10}{:>8}{:>11}".format(*row.values()))
    print(f"starting the decoder: {1000 * start:.0f} ms; headers: {rate:,.0f} a second")
    rows += [
        {"what": "start, ms", "isolated": round(1000 * start)},
        {"what": "headers a second", "in the process": round(rate)},
    ]
    if not options.quick:
        save({
            "name": "isolation", "ours": rows[0]["more"], "peer": None, "unit": "ms more for a native DICOM file of 13 MB", "ratio": None,
            "goal": f"< {GOAL} ms; >= 1,000 headers a second", "command": "python bench/isolation.py", "rows": rows,
        })  # fmt: skip


def start_one() -> None:
    """A decoder that is ready, and its end."""
    with Decoder() as decoder:
        decoder.start()


if __name__ == "__main__":
    main()
