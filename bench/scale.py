"""The size of CXR-LT 2024: seconds and memory of every step from the label file to an epoch of batches.

    python bench/scale.py [--share 0.1] [--quick]

A training set as published (258,871 images of 155,823 studies of 45,480 patients, see release.py) is made in a temporary
folder, every image a small JPEG of its own: a pattern like no other laid upon what chests have in common. Each step runs in
a process of its own, on one thread. Seconds are the clock's and the processor's (the machine may be busy with other things).
Memory is the most the process held at once, without the pages of mapped files, which the system takes back when it likes;
`mapped` counts those too.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import release
from result import save

SIDE, BATCH, FINDINGS = 64, 32, 40
GOAL_GB = 2.0  # of any step


def draw(root: Path, images: list[release.Image]) -> None:
    """A JPEG of SIDE px for each image: dark lungs beside a bright middle, under smooth noise of its own."""
    import cv2

    rng = np.random.default_rng(1)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    lungs = sum(np.exp(-(((x - middle) / 0.3) ** 2) - (y / 0.6) ** 2) for middle in (-0.45, 0.45))
    common = (150 - 90 * lungs).astype(np.float32)
    for image in images:
        own = cv2.resize(rng.normal(0, 30, (8, 8)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        file = root / image.path
        file.parent.mkdir(parents=True, exist_ok=True)
        coded = cv2.imencode(".jpg", np.clip(common + own, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
        file.write_bytes(coded.tobytes())


def make(root: Path, share: float) -> dict[str, int]:
    """The release on disk; how many images, studies and patients it has."""
    from hilum.findings import FINDING_SETS

    images = release.cxr_lt_2024(share)
    header = [*release.FACTS, *FINDING_SETS["cxr-lt-2024-task1"]]
    draw(root, images)
    release.write(root / "train_labeled.csv", header, (image.cells() for image in images))
    counted = {"studies": len({image.study for image in images}), "patients": len({image.subject for image in images})}
    return {"images": len(images), **counted}


def imported(root: Path) -> int:
    from hilum.sources import import_studies

    return import_studies("mimic", root, root / "studies.parquet", task=1)[1].studies.height


def checked(root: Path) -> int:
    from hilum.data.check import check

    report = check(root / "studies.parquet")
    if report.faults:
        sys.exit(f"check found a fault: {report.faults[0].sentence()}")
    return report.images


def split(root: Path) -> int:
    from hilum.data.splits import hold_out
    from hilum.tables import read_studies, write_studies

    table = hold_out(read_studies(root / "studies.parquet"), valid=0.1, test=0.1)
    sides = table.group_by("patient_id").agg(sides=pl.col("split").n_unique())
    if not sides.filter(pl.col("sides") > 1).is_empty():
        sys.exit("a patient is in several parts")
    write_studies(table, root / "split.parquet", label_level="study")
    return table.height


def cached(root: Path) -> int:
    from hilum.data.cache import build_cache

    return len(build_cache(root / "split.parquet", root / "cache", size=SIDE, workers=1).image_ids)


def an_epoch(root: Path) -> int:
    """Studies of split train, four views at most, drawn once in random order; nothing is trained."""
    import torch

    from hilum.batches.dataset import Studies
    from hilum.data.cache import open_cache
    from hilum.tables import finding_names, read_studies

    torch.set_num_threads(1)
    table = read_studies(root / "split.parquet")
    studies = Studies(table.filter(table["split"] == "train"), open_cache(root / "cache"), finding_names(table))
    drawn, rng = 0, np.random.default_rng(0)
    order = rng.permutation(len(studies))
    for start in range(0, len(order), BATCH):
        drawn += int(studies.batch(order[start : start + BATCH], rng).present.sum())
    return drawn


STEPS: dict[str, tuple[str, Callable[[Path], int]]] = {  # what is shown -> the step; each hands back the images it had
    "import": ("hilum import mimic", imported),
    "check": ("hilum check", checked),
    "split": ("split by patient", split),
    "cache": (f"hilum cache, {SIDE} px", cached),
    "again": ("hilum cache again, nothing to do", cached),
    "epoch": (f"an epoch of batches of {BATCH} studies", an_epoch),
}


class Held:
    """The most memory this process held, in bytes, without mapped files: looked at fifty times a second."""

    def __init__(self) -> None:
        self.most, self._done = 0, threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def _look(self) -> None:
        while not self._done.wait(0.02):
            lines = Path("/proc/self/status").read_text().splitlines()
            self.most = max(self.most, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")))

    def close(self) -> int:
        self._done.set()
        self._watch.join()
        return self.most


def once(step: str, root: Path) -> None:
    """One step in this process: its figures as JSON."""
    held, before = Held(), time.perf_counter()
    images = STEPS[step][1](root)
    seconds, used = time.perf_counter() - before, resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({
        "images": images, "seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime,
        "gigabytes": held.close() / 1e9, "mapped": used.ru_maxrss * 1024 / 1e9,
    }))  # fmt: skip


def measure(step: str, root: Path) -> dict[str, float]:
    quiet = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    command = [sys.executable, __file__, "--step", step, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | quiet)
    if done.returncode:
        sys.exit(f"{step}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="part of the training set")
    parser.add_argument("--quick", action="store_true", help="a hundredth of it; writes nothing")
    parser.add_argument("--folder", help="where the temporary folder is made")
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        once(options.step[0], Path(options.step[1]))
        return
    share = 0.01 if options.quick else options.share
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        root = Path(folder).resolve() / "mimic"
        sizes = make(root, share)
        print(f"{', '.join(f'{count:,} {what}' for what, count in sizes.items())}")
        print(
            f"{'step':<36}{'images':>9}{'seconds':>9}{'CPU s':>8}{'images/CPU s':>14}{'GB':>7}{'mapped':>8}", flush=True
        )
        for step, (what, _) in STEPS.items():
            found = measure(step, root)
            rate = round(found["images"] / found["cpu_seconds"])
            rows.append(
                {"step": what, "images_per_cpu_second": rate, **{key: round(value, 2) for key, value in found.items()}}
            )
            row = rows[-1]
            print(f"{what:<36}{row['images']:>9,}{row['seconds']:>9}{row['cpu_seconds']:>8}{rate:>14,}"
                  f"{row['gigabytes']:>7}{row['mapped']:>8}", flush=True)  # fmt: skip
        # Before the folder goes: removing so many files can take as long as a step.
        worst = max(row["gigabytes"] for row in rows)
        result = {
            "name": "scale",
            "ours": worst,
            "peer": None,
            "unit": f"gigabytes that the largest step holds, {sizes['images']:,} images",
            "ratio": None,
            "goal": f"< {GOAL_GB:g} GB in every step",
            "command": "python bench/scale.py" + (f" --share {share:g}" if share != 1 else ""),
            "sizes": sizes,
            "rows": rows,
        }
        print(f"At most {worst} GB; the goal is {result['goal']}.")
        if not options.quick:
            save(result)


if __name__ == "__main__":
    main()
