"""A recipe chosen by inner folds against ridge regression on thumbnails: nothing is tuned on what is reported.

    hilum import nih FOLDER_OF_CHESTXRAY14 -o nih.parquet
    python bench/nested.py nih.parquet RUNS

The table is dealt by patient into five outer folds. For each, every candidate below is trained on the other four, of
which it holds some patients back as inner validation; the candidate of the best macro AUROC there is the fold's choice.
Its predictions of the outer fold then meet those of ridge regression on 16 x 16 pixels (bench/floors.py), which is
trained on all of the other four folds, the inner validation patients too. The difference, paired by patient over all
five folds, is written into bench/results/floors.json. A run that is finished is not made again, an interrupted one goes on.

The candidates were written down before any of them was trained: the recipe as it stands, another loss, more epochs,
another network. All have 64 px, no pretrained weights, and choose their epoch by inner AUROC. Give all images in one
size, or let them come from one: where some were enlarged, a network can see which.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from floors import floors
from loader import cpu_seconds
from result import FOLDER

from hilum.evaluation.compare import compare
from hilum.evaluation.evaluate import evaluate
from hilum.tables import read_studies
from hilum.training.run import train

FOLDS, FEW = 5, 5  # positive patients a finding needs in the inner validation part
CANDIDATES = {
    "nih_quick": [],
    "bce": ["loss=bce"],
    "bce, 40 epochs": ["loss=bce", "train.epochs=40"],
    "bce, test_efficientnet": ["loss=bce", "model.backbone=test_efficientnet"],
}


def run_folder(runs: Path, fold: int, name: str) -> Path:
    return runs / f"fold-{fold}" / name.replace(", ", "-").replace(" ", "-")


def inner_auroc(run: Path) -> float:
    """Macro AUROC of a run on its inner validation part."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = evaluate(
            [run / "predictions_valid.parquet"], run / "studies.parquet", folder, replicates=2, min_positives=FEW
        )
    return float(metrics["macro"]["auroc"][0])


def choose(studies: Path, runs: Path, *, quick: bool = False) -> list[dict[str, Any]]:
    """Train what is not trained yet. One dict per outer fold: fold, chosen (its candidate), inner (AUROC of each)."""
    told = []
    for fold in range(FOLDS):
        inner = {}
        for name, overrides in CANDIDATES.items():
            run = run_folder(runs, fold, name)
            before = cpu_seconds()
            if not (run / "report" / "metrics.json").exists():
                always = [f"studies={studies}", f"cache.folder={runs / 'cache'}", f"split.fold={fold}"]
                always += ["train.select=auroc", *overrides, *(["train.epochs=1"] if quick else [])]
                train("nih_quick", always, run=run, resume=(run / "recipe.yaml").exists())
            inner[name] = round(inner_auroc(run), 4)
            print(
                f"fold {fold}  {name:<24} inner AUROC {inner[name]:.3f}  {cpu_seconds() - before:6.0f} CPU s",
                flush=True,
            )
        told.append({"fold": fold, "chosen": max(inner, key=lambda name: inner[name]), "inner": inner})
        print(f"fold {fold}  chosen: {told[-1]['chosen']}", flush=True)
    return told


def ridge_predictions(run: Path, folder: Path) -> Path:
    """Ridge regression's predictions of the fold that a run was tested on; it learns from train and valid."""
    folder.mkdir()
    table = read_studies(run / "studies.parquet").with_columns(pl.col("split").replace("valid", "train"))
    return floors(table, folder)["ridge on 16 x 16"]


def against_ridge(studies: Path, runs: Path, names: Sequence[str], ridge: Sequence[Path], replicates: int) -> Any:
    """The macro AUROC row of a comparison: candidate `names[k]` in outer fold k, minus ridge."""
    ours = [run_folder(runs, fold, name) / "predictions_test.parquet" for fold, name in enumerate(names)]
    row = compare([ours, ridge], studies, replicates=replicates)["pairs"][0]["macro"]["all"]
    return row["auroc"] | {"findings": row["findings"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, help="the study table of ChestX-ray14, or of a part of it")
    parser.add_argument("runs", type=Path, help="the folder for the runs")
    parser.add_argument("--quick", action="store_true", help="one epoch each, 100 replicates; writes no JSON")
    given = parser.parse_args()
    folds = choose(given.studies, given.runs, quick=given.quick)
    replicates = 100 if given.quick else 1000
    with tempfile.TemporaryDirectory() as folder:
        ridge = [
            ridge_predictions(run_folder(given.runs, fold, "nih_quick"), Path(folder) / f"{fold}")
            for fold in range(FOLDS)
        ]
        chosen = against_ridge(given.studies, given.runs, [one["chosen"] for one in folds], ridge, replicates)
        as_it_stands = against_ridge(given.studies, given.runs, ["nih_quick"] * FOLDS, ridge, replicates)
    for name, row in (("chosen by inner folds", chosen), ("nih_quick in every fold", as_it_stands)):
        value, low, high = row["difference"]
        print(
            f"{name:<24} AUROC {row['values'][0]:.3f}, ridge {row['values'][1]:.3f}: {value:+.3f} [{low:+.3f}, {high:+.3f}]"
        )
    if not given.quick:
        path = FOLDER / "floors.json"
        held = json.loads(path.read_text())
        held["difference_to_ridge"] = chosen["difference"]
        held["nested"] = {
            "what": f"macro AUROC over {len(chosen['findings'])} findings, five folds by patient: chosen by inner folds, and ridge",
            "values": chosen["values"],
            "p": chosen["p"],
            "nih_quick_in_every_fold": {"values": as_it_stands["values"], "difference": as_it_stands["difference"]},
            "studies": read_studies(given.studies).height,
            "folds": folds,
            "command": "python bench/nested.py nih.parquet RUNS",
            "date": date.today().isoformat(),
        }  # fmt: skip
        path.write_text(json.dumps(held, indent=2) + "\n")


if __name__ == "__main__":
    main()
