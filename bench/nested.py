"""A recipe chosen by inner folds: no choice is made on what is reported.

    hilum import nih FOLDER_OF_CHESTXRAY14 -o nih.parquet
    python bench/nested.py nih.parquet RUNS

The table is dealt by patient into five outer folds. For each, every candidate below is trained on the other four, of
which it holds some patients back as inner validation; the candidate of the best macro AUROC there is the fold's choice,
and RUNS/chosen.json names it. Only then does anyone look at its predictions of the outer fold (`bench/floors.py
--folds RUNS`). A run that is finished is not made again, one that was interrupted goes on.

The candidates were written down before any of them was trained: the recipe as it stands, another loss, more epochs,
another network. All have 64 px, no pretrained weights, and choose their epoch by inner AUROC.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from loader import cpu_seconds

from hilum.evaluation.evaluate import evaluate
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


def chosen(runs: Path) -> list[dict[str, Any]]:
    """One dict per outer fold: chosen (its candidate), inner (AUROC of every candidate)."""
    made: list[dict[str, Any]] = json.loads((runs / "chosen.json").read_text())
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, help="a study table of one finding set: nih")
    parser.add_argument("runs", type=Path, help="the folder for the runs; several gigabytes are not needed")
    parser.add_argument("--quick", action="store_true", help="one epoch each: to see that it runs")
    given = parser.parse_args()
    told = []
    for fold in range(FOLDS):
        inner = {}
        for name, overrides in CANDIDATES.items():
            run = run_folder(given.runs, fold, name)
            before = cpu_seconds()
            if not (run / "report" / "metrics.json").exists():
                always = [f"studies={given.studies}", f"cache.folder={given.runs / 'cache'}", f"split.fold={fold}"]
                always += ["train.select=auroc", *overrides, *(["train.epochs=1"] if given.quick else [])]
                train("nih_quick", always, run=run, resume=(run / "recipe.yaml").exists())
            inner[name] = round(inner_auroc(run), 4)
            print(
                f"fold {fold}  {name:<24} inner AUROC {inner[name]:.3f}  {cpu_seconds() - before:6.0f} CPU s",
                flush=True,
            )
        told.append({"fold": fold, "chosen": max(inner, key=lambda name: inner[name]), "inner": inner})
        print(f"fold {fold}  chosen: {told[-1]['chosen']}", flush=True)
    (given.runs / "chosen.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
