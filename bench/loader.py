"""Speed: the same float32 batch (B, 1, 512, 512) in [-1024, 1024] from our cache and from torchxrayvision's NIH_Dataset, on one core.

    python bench/loader.py --data FOLDER [--batch 31] [--quick]

FOLDER holds PNGs of ChestX-ray14 at 1024 x 1024 and the label table (or is the folder above both). The peer reads with
its own transforms, XRayCenterCrop and XRayResizer(512), through torch's DataLoader without workers, as its manual shows. Passes of both
alternate; the fastest of each counts. Files are in the page cache for both. Ten epochs are timed with building our cache.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from hilum.data.cache import Cache, build_cache

SIZE, EPOCHS, GOAL = 512, 10, 250
RESULT = Path(__file__).parent / "results" / "loader.json"
Batch = np.ndarray[Any, np.dtype[np.float32]]


def images_of(data: Path) -> tuple[Path, Path]:
    """The folder of the 1024-pixel images and the label table."""
    folder = next((place for place in (data, data / "images_1024", data / "images") if any(place.glob("*.png"))), None)
    tables = [*data.glob("Data_Entry_2017*.csv*"), *data.parent.glob("Data_Entry_2017*.csv*")]
    if folder is None or not tables:
        sys.exit(f"{data}: give --data a folder with ChestX-ray14's PNGs and its Data_Entry_2017_v2020.csv(.gz).")
    return folder, tables[0]


def to_float(pixels: np.ndarray[Any, np.dtype[np.uint8]], out: Batch) -> Batch:
    """(B, 1, H, W) float32 in [-1024, 1024] as torchxrayvision scales: (2 x / 255 - 1) 1024, in one pass."""
    for image, place in zip(pixels, out[:, 0]):
        cv2.addWeighted(image, 2048 / 255, image, 0, -1024, place, cv2.CV_32F)
    return out


def our_epoch(cache: Cache, names: list[str], batch: int) -> list[Batch]:
    rows, batches = cache.rows(names), []
    for start in range(0, len(rows), batch):
        pixels = cache.images(rows[start : start + batch])
        batches.append(to_float(pixels, np.empty((len(pixels), 1, SIZE, SIZE), np.float32)))
    return batches


def peer_loader(folder: Path, table: Path, names: list[str], batch: int, engine: str, scratch: Path) -> Any:
    try:
        import torchxrayvision as xrv
    except ImportError:
        sys.exit(
            "torchxrayvision is not installed: pip install 'hilum[bench]', or in a virtual environment of its own."
        )
    import torch
    import torchvision

    torch.set_num_threads(1)
    chosen = scratch / "entries.csv"
    listed = pl.read_csv(table, infer_schema=False).filter(pl.col("Image Index").is_in(names))
    listed.with_columns(pl.col("Patient ID", "Patient Age").cast(pl.Int64)).sort("Image Index").write_csv(chosen)
    transform = torchvision.transforms.Compose(
        [xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(SIZE, engine=engine)]
    )
    data = xrv.datasets.NIH_Dataset(
        str(folder), csvpath=str(chosen), views=["PA", "AP"], unique_patients=False, transform=transform
    )
    assert data.csv["Image Index"].tolist() == names
    return torch.utils.data.DataLoader(data, batch_size=batch, shuffle=False, num_workers=0)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    before = time.perf_counter()
    answer = work()
    return time.perf_counter() - before, answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/nih"), help="folder of ChestX-ray14")
    parser.add_argument("--batch", type=int, default=31)
    parser.add_argument("--quick", action="store_true", help="8 images, one pass; writes nothing")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    folder, table = images_of(options.data)
    files = sorted(folder.glob("*.png"))[: 8 if options.quick else None]
    names = [file.name for file in files]
    for file in files:
        file.read_bytes()  # into the page cache, for both
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        studies = pl.DataFrame({"image_id": names, "path": [str(file) for file in files]})
        building, cache = timed(lambda: build_cache(studies, place / "cache", size=SIZE, fit="crop", workers=1))
        theirs = peer_loader(folder, table, names, options.batch, "skimage", place)
        faster = peer_loader(folder, table, names, options.batch, "cv2", place)
        ours, peer, peer_cv2 = [], [], []
        for _ in range(1 if options.quick else 3):
            for _ in range(10):
                seconds, mine = timed(lambda: our_epoch(cache, names, options.batch))
                ours.append(seconds)
            seconds, their_batches = timed(lambda: [sample["img"].numpy() for sample in theirs])
            peer.append(seconds)
            peer_cv2.append(timed(lambda: [sample["img"] for sample in faster])[0])
        ten, _ = timed(lambda: [our_epoch(cache, names, options.batch) for _ in range(EPOCHS)])
    levels = np.abs(np.concatenate(mine) - np.concatenate(their_batches)) * (255 / 2048)  # in grey levels of 255
    count = len(names)
    rate, peer_rate = count / min(ours), count / min(peer)
    result = {
        "name": "loader",
        "ours": round(rate),
        "peer": round(peer_rate, 2),
        "unit": "images per second, 1024-pixel PNG to float32 (B, 1, 512, 512), one core; ours from the cache",
        "ratio": round(rate / peer_rate, 1),
        "goal": f">= {GOAL} times faster",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one used",
        "date": date.today().isoformat(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
        "command": f"python bench/loader.py --data FOLDER --batch {options.batch}" + " --quick" * options.quick,
        "rows": [
            {"what": "images, batch", "ours": [count, options.batch], "peer": [count, options.batch]},
            {"what": "milliseconds per image", "ours": round(1e3 / rate, 3), "peer": round(1e3 / peer_rate, 1)},
            {"what": "the median and the slowest pass, milliseconds per image",
             "ours": [round(1e3 * float(np.median(ours)) / count, 3), round(1e3 * max(ours) / count, 3)],
             "peer": [round(1e3 * float(np.median(peer)) / count, 1), round(1e3 * max(peer) / count, 1)]},
            {"what": "with the peer's cv2 engine, milliseconds per image", "ours": round(1e3 / rate, 3),
             "peer": round(1e3 * min(peer_cv2) / count, 1), "ratio": round(min(peer_cv2) / min(ours), 1)},
            {"what": f"seconds for {EPOCHS} epochs (ours with building the cache; the peer's fastest epoch, times {EPOCHS})",
             "ours": round(building + ten, 2), "peer": round(EPOCHS * min(peer), 2),
             "ratio": round(EPOCHS * min(peer) / (building + ten), 1)},
            {"what": "seconds to build the cache", "ours": round(building, 2)},
            {"what": "difference of the two outputs in grey levels of 255 (area mean, 8 bits v. smoothed spline, float)",
             "mean": round(float(levels.mean()), 3), "p99.9": round(float(np.quantile(levels, 0.999)), 2), "max": round(float(levels.max()), 2)},
            {"what": "versions", "peer": f"torchxrayvision {version('torchxrayvision')}, scikit-image {version('scikit-image')}",
             "ours": f"OpenCV {cv2.__version__}, numpy {np.__version__}"},
        ],
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    if not options.quick:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
