"""How much a split by image flatters on real images: five folds of ChestX-ray14 dealt by image, and dealt by patient.

    hilum import nih FOLDER_OF_CHESTXRAY14 -o nih.parquet      # its images in one size
    python bench/split_by_image.py nih.parquet RUNS            # what is trained there already is not trained again

Every image is scored once, by a model that was trained on four fifths of the others. Dealt by image, these hold other
images of most of its patients; dealt by patient, none. All else is alike, so the difference in the same images' scores is
what a figure gains by the wrong split. Three methods: the recipe nih_quick; ridge regression on 16 x 16 thumbnails; and the
nearest neighbour, which answers as the training image does that resembles it most, and so lives on resemblance alone.
Measures are averaged over folds; intervals over patients, and over trainings where there are several.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from floors import ridge, thumbnails
from result import save
from sklearn.preprocessing import StandardScaler

from hilum.atomic import ensure_folder
from hilum.data.splits import folds
from hilum.evaluation.compare import macro_difference, over_runs
from hilum.evaluation.intervals import Resampled, centred, macro
from hilum.progress import shown
from hilum.recipe import load_recipe
from hilum.reproductions.page import spoken
from hilum.reproductions.runs import finished
from hilum.tables import Labels, finding_names, labels_of, read_predictions, read_studies, write_studies

FOLDS, VALID, LEAST = 5, 0.15, 10  # LEAST: positive patients that a finding needs to be averaged
DEALS = ("image", "patient")


def dealt(table: pl.DataFrame, by: str, fold: int) -> pl.DataFrame:
    """The table with `split` for a fold: validation and test share no image, or no patient, with training."""
    if by == "patient":
        return folds(table, count=FOLDS, fold=fold, valid=VALID)
    alone = folds(table.with_columns(patient_id=pl.col("image_id")), count=FOLDS, fold=fold, valid=VALID)
    return alone.with_columns(patient_id=table["patient_id"])


def shared(table: pl.DataFrame) -> float:
    """The share of test images that have training images of their patient."""
    test, training = (table.filter(split=name) for name in ("test", "train"))
    return test.join(training, on="patient_id", how="semi").height / test.height


def network(runs: Path, by: str, fold: int, seed: int, overrides: Sequence[str]) -> Callable[..., np.ndarray]:
    """The recipe nih_quick: scores of the test images, in the order of `labels`."""

    def scores(table: pl.DataFrame, labels: Labels, test: np.ndarray) -> np.ndarray:
        folder = runs / f"by-{by}" / f"fold-{fold}"
        ensure_folder(folder)
        studies = folder / "studies.parquet"
        if not studies.exists():
            write_studies(table, studies, label_level="image")
        given = [f"studies={studies}", f"cache.folder={runs / 'cache'}", "split={column: split}", f"train.seed={seed}"]
        plan = load_recipe("nih_quick", [*given, *overrides])
        run = finished(plan, folder / f"seed-{seed}", folder / f"seed-{seed}.yaml", progress=shown, say=print)
        said = read_predictions(run / "predictions_test.parquet").table
        there = pl.DataFrame({"study_id": np.array(labels.ids)[test]}).join(said, on="study_id", maintain_order="left")
        return there.select(labels.findings).to_numpy()

    return scores


def by_thumbnail(pixels: np.ndarray, answer: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """`answer(x, y, new)` for each finding from the thumbnails of the images that are not tested."""

    def scores(table: pl.DataFrame, labels: Labels, test: np.ndarray) -> np.ndarray:
        x = StandardScaler().fit_transform(pixels)
        return np.stack([answer(x[~test], y[~test], x[test]) for y in labels.values.T], axis=1)

    return scores


def nearest(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The label of the training image at the least distance; the order of equal labels by that distance."""
    distance = np.sqrt(np.maximum((new**2).sum(1)[:, None] + (x**2).sum(1) - 2 * new @ x.T, 0))
    closest = distance.argmin(axis=1)
    sure = 1 / (1 + distance[np.arange(len(new)), closest])
    return np.where(y[closest] > 0.5, 0.5 + sure / 2, 0.5 - sure / 2)


def measured(
    table: pl.DataFrame, methods: dict[str, Any], seeds: dict[str, int], replicates: int
) -> list[dict[str, Any]]:
    """Per method: macro AP and AUROC by either deal, and what dealing by image adds."""
    labels = labels_of(table, finding_names(table))
    numbers = np.unique(labels.patients, return_inverse=True)[1]
    positive = [len(np.unique(numbers[column > 0.5])) for column in labels.values.T]
    chosen = np.array(positive) >= LEAST
    rows = []
    for name, method in methods.items():
        sides: dict[str, Resampled] = {}
        for by in DEALS:
            scores = [np.empty_like(labels.values) for _ in range(seeds[name])]
            fold_of = np.empty(len(labels.ids), dtype=int)
            for fold in range(FOLDS):
                split = dealt(table, by, fold)
                tested = set(split.filter(split="test")["study_id"])
                test = np.array([one in tested for one in labels.ids])
                fold_of[test] = fold
                for seed, kept in enumerate(scores):
                    kept[test] = method(by, fold, seed)(split, labels, test)
            sides[by] = over_runs(labels.values, scores, numbers, fold_of, replicates=replicates, seed=0)
        row: dict[str, Any] = {"what": name, "trainings": seeds[name], "findings": int(chosen.sum())}
        for measure, told in (("ap", "map"), ("auroc", "auroc")):
            for by, side in sides.items():
                value = float(macro(side.value[measure], chosen))
                row[f"{told}, by {by}"] = [value, *centred(value, macro(side.replicates[measure], chosen))]
            found = macro_difference(sides["image"], sides["patient"], measure, chosen)
            row[f"{told}, flattered by"] = [found.value, found.low, found.high]
        rows.append(row)
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("studies", type=Path, help="the study table of ChestX-ray14, or of a part of it")
    arguments.add_argument("runs", type=Path, help="the folder for the runs")
    arguments.add_argument("--seeds", type=int, default=3, help="trainings of the network for each fold")
    arguments.add_argument("--quick", action="store_true", help="one epoch, one training, 100 replicates; no JSON")
    given = arguments.parse_args()
    table = read_studies(given.studies)
    ensure_folder(given.runs)
    pixels, overrides = thumbnails(table, given.runs / "thumbnails"), ["train.epochs=1"] if given.quick else []
    methods = {
        "nearest thumbnail": lambda by, fold, seed: by_thumbnail(pixels, nearest),
        "ridge on 16 x 16": lambda by, fold, seed: by_thumbnail(pixels, ridge),
        "nih_quick": lambda by, fold, seed: network(given.runs, by, fold, seed, overrides),
    }
    seeds = {"nearest thumbnail": 1, "ridge on 16 x 16": 1, "nih_quick": 1 if given.quick else given.seeds}
    rows = measured(table, methods, seeds, 100 if given.quick else 1000)
    leaks = {by: round(float(np.mean([shared(dealt(table, by, fold)) for fold in range(FOLDS)])), 4) for by in DEALS}
    print(
        f"{table.height:,} images of {table['patient_id'].n_unique():,} patients; test images whose patient was trained on: {leaks}"
    )
    for row in rows:
        print(row["what"])
        for measure in ("map", "auroc"):
            told = [spoken(row[f"{measure}, by {by}"]) for by in DEALS]
            print(
                f"  {measure:<6} by image {told[0]}, by patient {told[1]}: {spoken(row[f'{measure}, flattered by'], '+')}"
            )
    if given.quick:
        return
    last = rows[-1]
    save(
        {
            "name": "split_by_image",
            "ours": round(last["map, by patient"][0], 4),
            "peer": round(last["map, by image"][0], 4),
            "unit": "mAP of nih_quick on the same real images: five folds dealt by patient, and dealt by image",
            "ratio": None,
            "goal": "how much a split by image flatters; there is no target",
            "command": f"python bench/split_by_image.py nih.parquet RUNS --seeds {given.seeds}",
            "images": table.height,
            "patients": table["patient_id"].n_unique(),
            "shared": leaks,
            "rows": rows,
        }
    )


if __name__ == "__main__":
    main()
