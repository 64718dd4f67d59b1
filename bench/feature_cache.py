"""Stage 2 on cached features against the same stage recomputing its frozen backbone: seconds per epoch.

    python bench/feature_cache.py [--quick]

Speed: ConvNeXt-S (random weights, frozen) with an ML-Decoder at 224 px, one thread. Both arms are whole runs of `hilum
train` on the same studies, without augmentation, so that they do the same work: train, validate and save a checkpoint in
every epoch. An epoch counts from one line of the log to the next, with all of this. The ratio is one of processor seconds,
as the clock of a busy machine says little; both are told. Computing the cache is told apart, and what a stage of 20 epochs
costs follows from both.

What it does to mAP is measured on the benchmark, by bench/feature_cache_map.py.

The studies are drawn: noise, and for each finding a faint bright square in its corner.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
from loader import cpu_seconds, one_core
from result import save

from hilum.tables import read_predictions, write_studies
from hilum.training.run import train

FINDINGS = {"Edema": 0.5, "Mass": 0.3, "Hernia": 0.2}
GOAL, LONG = 10.0, 20  # times faster per epoch; epochs of a stage as recipes have it
ARMS = {"recomputed": "off", "cached": "on"}


def draw(folder: Path, size: int, counts: dict[str, int]) -> Path:
    """Studies of one to three images, one study a patient, in a table with the split."""
    random, rows = np.random.default_rng(0), []
    for split, count in counts.items():
        for number in range(count):
            labels = {name: int(random.random() < share) for name, share in FINDINGS.items()}
            for view in ("PA", "LATERAL", "AP")[: 1 + number % 3]:
                image = random.integers(0, 120, (size, size)).astype(np.uint8)
                for corner, finding in enumerate(FINDINGS):
                    y, x = (corner // 2) * size // 2 + size // 8, (corner % 2) * size // 2 + size // 8
                    image[y : y + size // 4, x : x + size // 4] += np.uint8(100 * labels[finding])
                study = f"{split}{number}"
                path = folder / f"{study}{view}.png"
                cv2.imwrite(str(path), image)
                rows.append({"study_id": study, "patient_id": study, "image_id": path.stem, "path": str(path), "view": view,
                             "source": "drawn", "split": split, **labels})  # fmt: skip
    table = pl.DataFrame(rows, schema_overrides=dict.fromkeys(FINDINGS, pl.Int8))
    write_studies(table, folder / "studies.parquet", label_level="study")
    return folder / "studies.parquet"


class Clock:
    """Takes the lines that a run says, each with the clock and the processor's seconds."""

    def __init__(self) -> None:
        self.marks: list[tuple[str, float, float]] = []

    def __call__(self, line: str) -> None:
        self.marks.append((line, time.perf_counter(), cpu_seconds()))

    def epochs(self) -> np.ndarray:
        """(epochs, 2): clock and processor seconds of each epoch."""
        first = next(place for place, (line, *_) in enumerate(self.marks) if line.startswith("epoch"))
        return np.diff(np.array([mark[1:] for mark in self.marks[first - 1 :]]), axis=0)


def run(folder: Path, studies: Path, name: str, *overrides: str) -> Clock:
    clock = Clock()
    shared = [f"studies={studies}", f"cache.folder={studies.parent / 'cache'}", "findings=null", "split.column=split"]
    train("demo", [*shared, "train.ema=0", *overrides], run=folder / name, say=clock)
    return clock


def speed(folder: Path, quick: bool) -> dict[str, Any]:
    """Both arms of the same stage, one after the other."""
    name, size, epochs = ("test_resnet", 64, 2) if quick else ("convnext_small", 224, 3)
    counts = {"train": 96, "valid": 24, "test": 6} if not quick else {"train": 32, "valid": 12, "test": 6}
    studies = draw(folder, size, counts)
    same = [f"cache.size={size}", f"model.backbone={{name: {name}}}", "model.head={name: ml_decoder, dim: 256}",
            "freeze=backbone", "augment={name: none}", f"train.epochs={epochs}", "train.batch_size=8", "train.lr=1e-3"]  # fmt: skip
    run(
        folder, studies, "warm", *same[:3], "train.epochs=1", "model.backbone={name: test_resnet}"
    )  # decodes the images
    clocks = {arm: run(folder, studies, arm, *same, f"train.feature_cache={wish}") for arm, wish in ARMS.items()}
    manifest = json.loads((folder / "cached" / "manifest.json").read_text())["stages"]["main"]["features"]
    tables = [read_predictions(folder / arm / "predictions_test.parquet").table for arm in ARMS]
    apart = max(float((tables[0][finding] - tables[1][finding]).abs().max()) for finding in FINDINGS)
    images = {split: sum(1 + number % 3 for number in range(count)) for split, count in counts.items()}
    return {"backbone": name, "size": size, "images": images, "epochs": {arm: clock.epochs() for arm, clock in clocks.items()},
            "build": manifest["seconds"], "bytes": manifest["bytes"], "apart": apart}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smallest ResNet; writes nothing")
    quick = parser.parse_args().quick
    one_core()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        fast = speed(Path(folder), quick)
    clock, cpu = ({arm: float(np.median(epochs[:, part])) for arm, epochs in fast["epochs"].items()} for part in (0, 1))
    per_epoch = {
        what: {arm: round(value, 3) for arm, value in found.items()} for what, found in (("clock", clock), ("CPU", cpu))
    }
    whole = {"recomputed": LONG * clock["recomputed"], "cached": fast["build"] + LONG * clock["cached"]}
    rows = [
        {
            "what": f"{what} seconds per epoch, median",
            **found,
            "ratio": round(found["recomputed"] / max(found["cached"], 1e-3), 1),
        }
        for what, found in per_epoch.items()
    ]
    rows += [
        {"what": "clock seconds of each epoch", **{arm: [round(float(x), 2) for x in each[:, 0]] for arm, each in fast["epochs"].items()}},
        {"what": "clock seconds to compute the features, once", "cached": fast["build"]},
        {"what": f"clock seconds of {LONG} epochs and the computing, from the above", **{arm: round(x, 1) for arm, x in whole.items()}, "ratio": round(whole["recomputed"] / whole["cached"], 1)},
        {"what": "largest difference of a test probability", "cached": fast["apart"]},
        {"what": "images", "cached": fast["images"]},
        {"what": "bytes of features", "cached": fast["bytes"]},
        {"what": "load of the machine at the start (other work, besides this)", "cached": round(load, 1)},
    ]  # fmt: skip
    print(f"{'':<66}{'recomputed':>24}{'cached':>40}{'ratio':>8}")
    for row in rows:
        print(
            f"{row['what']:<66}{row.get('recomputed', '')!s:>24}{row.get('cached', '')!s:>40}{row.get('ratio', '')!s:>8}"
        )
    print(f"{rows[1]['ratio']} times faster per epoch; the goal is {GOAL:g}.")
    if quick:
        sys.exit()
    result = {
        "name": "feature_cache",
        "ours": per_epoch["CPU"]["cached"],
        "peer": per_epoch["CPU"]["recomputed"],
        "unit": f"CPU seconds per epoch of a stage on a frozen {fast['backbone']} at {fast['size']} px, one thread",
        "ratio": rows[1]["ratio"],
        "goal": f">= {GOAL:g} times faster per epoch",
        "command": "python bench/feature_cache.py",
        "rows": rows,
    }
    save(result)


if __name__ == "__main__":
    main()
