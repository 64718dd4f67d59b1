"""What images of a generator bring in training: none, images of rare findings as a perfect generator makes them, and blurred ones.

    hilum import phantom --benchmark phantom-26-small -o small
    python bench/generated.py small small/generated      # trainings that are there already are not repeated

The generator is the phantom itself with another seed: it draws from the very world that is tested, and its labels are true,
which no learned generator reaches. So the first gain is the most that generated images could bring here; the blurred ones
have lost what is finer than a few pixels, as many generators do. Of what it draws, the images of studies with a tail
finding are taken, through `hilum import synthetic`. All arms see the same training, validation and test studies besides,
and take as many steps of phantom_small at 64 px; judged on the truth of the test patients, several seeds each.
"""

import argparse
from pathlib import Path
from typing import Any

import cv2
import polars as pl
from part import part_of
from result import save

from hilum.atomic import ensure_folder
from hilum.evaluation.compare import ROWS, compare
from hilum.progress import shown
from hilum.recipe import load_recipe
from hilum.reproductions.page import spoken
from hilum.reproductions.runs import finished
from hilum.sources import import_studies
from hilum.sources.phantom.benchmarks import BENCHMARKS, Benchmark
from hilum.sources.phantom.source import draw_benchmark
from hilum.tables import finding_names, labels_of, read_studies

NAME, RECIPE, SEED = "phantom-26-small", "phantom_small", 99
ALONE, PERFECT, BLURRED = "none", "rare findings, as the phantom draws them", "rare findings, blurred"
SIGMA = 2.0  # of the blur, in pixels of images of 128
PARTS = {"train": 2000, "valid": 1000, "test": 5000}


def generated(work: Path, studies: int) -> dict[str, Path]:
    """Study tables of the images of rare findings among `studies` drawn ones, as they are and blurred."""
    files = {PERFECT: work / "perfect.parquet", BLURRED: work / "blurred.parquet"}
    if all(file.exists() for file in files.values()):
        return files
    world = BENCHMARKS[NAME].world
    drawn = draw_benchmark(work / "drawn", "generator", Benchmark(world, size=128, train=studies, valid=1, test=1, labelled=1, seed=SEED), progress=shown)  # fmt: skip
    assert drawn.truth is not None
    rare = [name for name, tier in world.tiers.items() if tier == "tail"]
    chosen = drawn.truth.filter((pl.col("split") == "train") & pl.any_horizontal(pl.col(rare) == 1))
    findings = finding_names(chosen)
    for name, file in files.items():
        root = ensure_folder(work / file.stem)
        for path, image_id in zip(chosen["path"], chosen["image_id"]):
            pixels: Any = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
            cv2.imwrite(
                str(root / f"{image_id}.png"), cv2.GaussianBlur(pixels, (0, 0), SIGMA) if name == BLURRED else pixels
            )
        labels = chosen.select(pl.format("{}.png", "image_id").alias("image"), "view", *findings)
        labels.write_csv(work / f"{file.stem}.csv")
        import_studies(
            "synthetic", root, file, table=str(work / f"{file.stem}.csv"), image_column="image", view_column="view"
        )
    return files


def trained(work: Path, table: Path, arm: str, extra: Path | None, seed: int, epochs: int) -> Path:
    """The run of an arm; as many steps, whatever it learns from."""
    tables = [table, *([extra] if extra else [])]
    counts = [_images(one) for one in tables]
    levelled = max(1, round(epochs * counts[0] / sum(counts)))
    overrides = [f"studies=[{', '.join(map(str, tables))}]", f"cache.folder={work / 'cache-64'}", "cache.size=64", "train.level=image",
                 "train.batch_size=32", f"train.epochs={levelled}", f"train.seed={seed}"]  # fmt: skip
    run = work / f"{'alone' if extra is None else extra.stem}-seed{seed}"
    print(f"{arm}, seed {seed}: {sum(counts):,} training images, {levelled} epochs")
    return finished(load_recipe(RECIPE, overrides), run, run.with_suffix(".yaml"), progress=shown, say=print)


def _images(file: Path) -> int:
    """Labelled training images of a table."""
    rows = read_studies(file).filter(pl.col("split") == "train")
    return len(labels_of(rows, finding_names(rows), level="image").ids)


def gained(row: dict[str, Any]) -> dict[str, Any]:
    """A comparison of no generated images with some, turned round: what these add, over how many findings."""
    found, count = row["map"], len(row["findings"])
    without, with_them = found["values"]
    less, low, high = found["difference"]
    return {
        "findings": count,
        "without": without,
        "with": with_them,
        "gain": [-less, -high, -low],
        "told_apart": found["told_apart"],
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, help=f"where `hilum import phantom --benchmark {NAME}` drew it")
    arguments.add_argument("work", type=Path, help="where generated images and trainings go")
    arguments.add_argument("--seeds", type=int, default=3, help="trainings of every arm")
    arguments.add_argument("--epochs", type=int, default=12, help="of the arm without generated images")
    arguments.add_argument("--generated", type=int, default=8000, help="studies that the generator draws")
    given = arguments.parse_args()
    ensure_folder(given.work)
    table = part_of(given.folder / "studies.parquet", given.work / "real.parquet", PARTS)
    extras: dict[str, Path | None] = {ALONE: None, **generated(given.work, given.generated)}
    runs = {
        arm: [trained(given.work, table, arm, extra, seed, given.epochs) for seed in range(given.seeds)]
        for arm, extra in extras.items()
    }
    sides = [[run / "predictions_test.parquet" for run in made] for made in runs.values()]
    compared = compare(sides, given.folder / "truth.parquet", common=True, progress=shown)
    rows = []
    for arm, pair in zip(list(runs)[1:], compared["pairs"]):
        tiers = {row: gained(found) for row in ROWS if (found := pair["macro"][row]) is not None}
        extra = extras[arm]
        rows.append({"what": arm, "images": _images(extra) if extra else 0, "tiers": tiers})
        for tier, found in tiers.items():
            print(f"{arm:<44}{tier:<8}{found['without']:.3f} -> {found['with']:.3f}   {spoken(found['gain'], '+')}")
    first = rows[0]["tiers"]["tail"]
    save(
        {
            "name": "generated",
            "ours": round(first["with"], 4),
            "peer": round(first["without"], 4),
            "unit": "tail mAP on truth, with images of a perfect generator of rare findings and without any",
            "ratio": None,
            "goal": "what generated images bring, and what blurred ones do; there is no target",
            "command": f"python bench/generated.py {NAME} RUNS --seeds {given.seeds} --epochs {given.epochs} --generated {given.generated}",
            "real": _images(table),
            "rows": rows,
        }
    )


if __name__ == "__main__":
    main()
